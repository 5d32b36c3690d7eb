/* SPDX-License-Identifier: MIT */
/*
 * numa_topology.h - the narrow boundary to the machine's NUMA nodes.
 *
 * Two kinds implement it: numa_libnuma.c knows the machine's own nodes, numa_emulated.c plays N
 * nodes on any machine. numa_open.h chooses one. The daemon owns a topology; the engine sees only
 * node numbers. Any thread may call the operations, because a topology in use never changes.
 */
#ifndef KSM_NUMA_TOPOLOGY_H
#define KSM_NUMA_TOPOLOGY_H

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define NUMA_MAX_NODES 64
#define NUMA_MAX_QUERY 512 /* pages; their addresses take 4 KiB of stack */
#define NUMA_MAX_MOVE 2048 /* the same of a move */

/* Distances, as ACPI has them: 10 to itself; 20 means that access takes twice as long. */
#define NUMA_HERE 10
#define NUMA_FAR 254 /* 255 would be: not reachable */

struct numa_topology;

struct numa_topology_ops {
	/*
	 * Write the node of each of nr pages of process pid (0: the calling one) to nids, -1 where
	 * it is not known: the page is not there, is being migrated, or the process may not be
	 * asked about.
	 * nr <= NUMA_MAX_QUERY.
	 */
	void (*page_nids)(struct numa_topology *t, pid_t pid, const uint64_t *addr, int nr,
			  int *nids);
	/*
	 * Place on node nid what the kernel allocates for the calling thread from now on, elsewhere
	 * when the node is full; nid -1: where the thread runs. Returns 0 or -errno.
	 */
	int (*prefer)(struct numa_topology *t, int nid);
	/*
	 * Take any policy from the part of a shared file that is mapped at [addr, addr + len), page
	 * aligned, by a mapping that never had one. Returns 0 or -errno. NULL where policies do
	 * nothing.
	 */
	int (*unbind)(struct numa_topology *t, void *addr, size_t len);
	/*
	 * Have private memory of the calling process, [addr, addr + len), page aligned, which it
	 * has not touched yet, lie on node nid, or elsewhere while that has no room. Returns 0 or
	 * -errno (no memory there at all). NULL where nothing can be placed.
	 */
	int (*place)(struct numa_topology *t, void *addr, size_t len, int nid);
	/*
	 * Move pages of the calling process to node nid, under all their mappings, as many as can
	 * be. nr <= NUMA_MAX_MOVE. Returns 0 or -errno (-EPERM: that takes CAP_SYS_NICE). NULL
	 * where pages cannot be moved.
	 */
	int (*move)(struct numa_topology *t, const uint64_t *addr, int nr, int nid);
	/*
	 * Node of the CPU on which a thread of that name ran last, or the nearest node with memory;
	 * -1 where it is not known.
	 */
	int (*cpu_nid)(struct numa_topology *t, int cpu, const char *name);
	/* The node's CPUs that are online; none where it has none, or it is not known. */
	void (*cpus)(struct numa_topology *t, int nid, cpu_set_t *set);
	/*
	 * May the calling process have memory on the node now? 0, -ENODEV (the node has none, or is
	 * offline), -EPERM (its cpuset keeps it away).
	 */
	int (*usable)(struct numa_topology *t, int nid);
	/* Bytes that are free on the node. */
	uint64_t (*room)(struct numa_topology *t, int nid);
	/* Pages that the kernel has migrated so far, as it counts; not all moves are. */
	uint64_t (*moves)(struct numa_topology *t);
	void (*free)(struct numa_topology *t);
};

struct numa_topology {
	const struct numa_topology_ops *ops;
	int nr_nodes;                /* 1..NUMA_MAX_NODES; nodes are 0..nr_nodes - 1 */
	int os_node[NUMA_MAX_NODES]; /* the kernel's number of each node */
	uint8_t distance[NUMA_MAX_NODES][NUMA_MAX_NODES]; /* NUMA_HERE on the diagonal */
	bool pretends_moves; /* without move(): a frame is taken to lie where it was moved to */
	/*
	 * How the kernel is asked where pages of a process lie: status[] gets what move_pages(2)
	 * says. Returns 0 or -errno. NULL where there is nothing to ask. Whoever opened the
	 * topology may put another way in its place before it is used.
	 */
	int (*query)(void *arg, pid_t pid, void **page, int nr, int *status);
	void *query_arg;
};

/* Free a topology. NULL is accepted. */
static inline void numa_topology_close(struct numa_topology *t)
{
	if (t)
		t->ops->free(t);
}

#endif
