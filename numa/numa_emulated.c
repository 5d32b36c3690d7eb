/* SPDX-License-Identifier: MIT */
/*
 * numa_emulated.c - plays N nodes on any machine.
 *
 * Tests must be able to check placement on a machine with one node. The node of a page follows from
 * its address, in stripes of 2 MiB. So a test puts equal contents on chosen nodes by choosing
 * addresses, and a run repeats exactly. The memory itself lies anywhere, so prefer() does nothing.
 */
#include "numa/numa_emulated.h"

#include <stdlib.h>

#define STRIPE_SHIFT 21 /* 2 MiB: a block of 64 pages never spans two nodes */

static void emulated_page_nids(struct numa_topology *t, pid_t pid, const uint64_t *addr, int nr,
			       int *nids)
{
	(void)pid;
	for (int i = 0; i < nr; i++)
		nids[i] = (int)((addr[i] >> STRIPE_SHIFT) % (uint64_t)t->nr_nodes);
}

static int emulated_prefer(struct numa_topology *t, int nid)
{
	(void)t;
	(void)nid;
	return 0;
}

static uint64_t emulated_room(struct numa_topology *t, int nid)
{
	(void)t;
	(void)nid;
	return 0;
}

static uint64_t emulated_moves(struct numa_topology *t)
{
	(void)t;
	return 0;
}

static void emulated_free(struct numa_topology *t)
{
	free(t);
}

static const struct numa_topology_ops emulated_ops = {
	.page_nids = emulated_page_nids,
	.prefer = emulated_prefer,
	.room = emulated_room,
	.moves = emulated_moves,
	.free = emulated_free,
};

struct numa_topology *numa_emulated_new(int nr_nodes)
{
	struct numa_topology *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->ops = &emulated_ops;
	t->nr_nodes = nr_nodes;
	for (int nid = 0; nid < nr_nodes; nid++)
		t->os_node[nid] = nid;
	return t;
}
