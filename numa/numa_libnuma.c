/* SPDX-License-Identifier: MIT */
/*
 * numa_libnuma.c - knows the machine's own nodes.
 *
 * The kernel's node numbers may have holes, for offline nodes and nodes without memory. Ours have
 * none, because they index arrays and zones; os_node[] translates back.
 *
 * move_pages() without target nodes says where pages lie and moves nothing. It needs the right to
 * ptrace the process. Where the daemon does not have it, every page counts as node 0, which costs
 * placement and never correctness.
 */
#include "numa/numa_libnuma.h"

#include <errno.h>
#include <numa.h>
#include <numaif.h>
#include <stdbool.h>
#include <stdlib.h>

#define MAX_OS_NODES 1024 /* CONFIG_NODES_SHIFT is at most 10 */

struct libnuma_topology {
	struct numa_topology t;
	int8_t nid_of[MAX_OS_NODES]; /* our number of each of the kernel's, -1: none */
};

/* Ask the kernel for the node, or a negative errno, of each page. 0 or -1. */
static int query(pid_t pid, const uint64_t *addr, int nr, int *status)
{
	void *pages[NUMA_MAX_QUERY];

	for (int i = 0; i < nr; i++)
		pages[i] = (void *)(uintptr_t)addr[i];
	return move_pages(pid, (unsigned long)nr, pages, NULL, status, 0) < 0 ? -1 : 0;
}

static void libnuma_page_nids(struct numa_topology *t, pid_t pid, const uint64_t *addr, int nr,
			      int *nids)
{
	struct libnuma_topology *lt = (struct libnuma_topology *)t;
	int status[NUMA_MAX_QUERY];
	bool known = t->nr_nodes > 1 && nr <= NUMA_MAX_QUERY && query(pid, addr, nr, status) == 0;

	for (int i = 0; i < nr; i++) {
		int os = known ? status[i] : -1;

		nids[i] = os >= 0 && os < MAX_OS_NODES && lt->nid_of[os] > 0 ? lt->nid_of[os] : 0;
	}
}

static int libnuma_bind(struct numa_topology *t, void *addr, size_t len, int nid)
{
	unsigned long mask[MAX_OS_NODES / (8 * sizeof(long))] = { 0 };
	unsigned int os = (unsigned int)t->os_node[nid];

	if (t->nr_nodes == 1)
		return 0;
	mask[os / (8 * sizeof(long))] = 1ul << (os % (8 * sizeof(long)));
	/*
	 * Preferred, not bound: a full node must not make merging fail. The kernel reads one bit
	 * less than maxnode says.
	 */
	return mbind(addr, len, MPOL_PREFERRED, mask, MAX_OS_NODES + 1, 0) ? -errno : 0;
}

static void libnuma_free(struct numa_topology *t)
{
	free(t);
}

static const struct numa_topology_ops libnuma_ops = {
	.page_nids = libnuma_page_nids,
	.bind = libnuma_bind,
	.free = libnuma_free,
};

/* Number the nodes whose memory this process may use; none where it cannot be found out. */
static void number_nodes(struct libnuma_topology *lt)
{
	struct bitmask *mems;
	int max;

	if (numa_available() < 0)
		return;
	mems = numa_get_mems_allowed();
	if (!mems)
		return;
	max = numa_max_node();
	for (int os = 0; os <= max && os < MAX_OS_NODES && lt->t.nr_nodes < NUMA_MAX_NODES; os++) {
		if (!numa_bitmask_isbitset(mems, (unsigned int)os))
			continue;
		lt->nid_of[os] = (int8_t)lt->t.nr_nodes;
		lt->t.os_node[lt->t.nr_nodes++] = os;
	}
	numa_bitmask_free(mems);
}

struct numa_topology *numa_libnuma_new(void)
{
	struct libnuma_topology *lt = calloc(1, sizeof(*lt));

	if (!lt)
		return NULL;
	lt->t.ops = &libnuma_ops;
	for (int os = 0; os < MAX_OS_NODES; os++)
		lt->nid_of[os] = -1;
	number_nodes(lt);
	if (lt->t.nr_nodes == 0) {
		lt->nid_of[0] = 0;
		lt->t.nr_nodes = 1;
	}
	return &lt->t;
}
