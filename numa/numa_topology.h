/* SPDX-License-Identifier: MIT */
/*
 * numa_topology.h - the narrow boundary to the machine's NUMA nodes.
 *
 * Two implementations: libnuma (the machine as it is) and emulated:N (N nodes on any machine, for
 * tests and policy studies; the node of a page follows from its address, in 2 MiB stripes, so that
 * it is the same in every run). numa_open.h chooses. The daemon owns one; the engine sees only node
 * numbers.
 */
#ifndef KSM_NUMA_TOPOLOGY_H
#define KSM_NUMA_TOPOLOGY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct numa_topology;

struct numa_topology_ops {
	/* Node of each page of process pid; 0 where it cannot be told. nr <= 512. */
	void (*page_nids)(struct numa_topology *t, pid_t pid, const uint64_t *addr, int nr,
			  int *nids);
	/* Place memory that will be allocated in [addr, addr+len) (a shared mapping) on a node. */
	int (*bind)(struct numa_topology *t, void *addr, size_t len, int nid);
	void (*free)(struct numa_topology *t);
};

struct numa_topology {
	const struct numa_topology_ops *ops;
	int nr_nodes;    /* 1..64; node numbers are 0..nr_nodes-1, dense */
	int os_node[64]; /* the kernel's number of each node */
};

/* NULL is accepted. */
static inline void numa_topology_close(struct numa_topology *t)
{
	if (t)
		t->ops->free(t);
}

#endif
