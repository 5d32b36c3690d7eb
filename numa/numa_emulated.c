/* SPDX-License-Identifier: MIT */
/*
 * numa_emulated.c - plays N nodes on any machine.
 *
 * Tests must be able to check placement on a machine with one node. The node of a page follows from
 * its address, in stripes of 2 MiB. So a test puts equal contents on chosen nodes by choosing
 * addresses, and a run repeats exactly. The memory itself lies anywhere, so prefer() does nothing:
 * a new frame is taken to lie on the node of its zone, and one that was moved on the node that it
 * was moved to, which the arena remembers.
 *
 * The node of a thread is that of its CPU: CPUs are dealt out to the nodes in turn. A machine of a
 * test has few CPUs, so a thread can say where it is taken to run: its name ends with "@N"
 * (PR_SET_NAME, pthread_setname_np()).
 */
#include "numa/numa_emulated.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

static int emulated_usable(struct numa_topology *t, int nid)
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

static int emulated_cpu_nid(struct numa_topology *t, int cpu, const char *name)
{
	const char *at = strrchr(name, '@');
	char *end;
	long nid;

	if (at && at[1] >= '0' && at[1] <= '9') {
		nid = strtol(at + 1, &end, 10);
		if (!*end)
			return nid < t->nr_nodes ? (int)nid : -1;
	}
	return cpu < 0 ? -1 : cpu % t->nr_nodes;
}

/* As emulated_cpu_nid(). */
static void emulated_cpus(struct numa_topology *t, int nid, cpu_set_t *set)
{
	long nr = sysconf(_SC_NPROCESSORS_CONF);

	CPU_ZERO(set);
	for (int cpu = nid; cpu < nr && cpu < CPU_SETSIZE; cpu += t->nr_nodes)
		CPU_SET(cpu, set);
}

static void emulated_free(struct numa_topology *t)
{
	free(t);
}

static const struct numa_topology_ops emulated_ops = {
	.page_nids = emulated_page_nids,
	.prefer = emulated_prefer,
	.usable = emulated_usable,
	.room = emulated_room,
	.moves = emulated_moves,
	.cpu_nid = emulated_cpu_nid,
	.cpus = emulated_cpus,
	.free = emulated_free,
};

struct numa_topology *numa_emulated_new(int nr_nodes)
{
	struct numa_topology *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->ops = &emulated_ops;
	t->nr_nodes = nr_nodes;
	for (int nid = 0; nid < nr_nodes; nid++) {
		t->os_node[nid] = nid;
		for (int to = 0; to < nr_nodes; to++)
			t->distance[nid][to] = nid == to ? NUMA_HERE : NUMA_EMULATED_FAR;
	}
	return t;
}
