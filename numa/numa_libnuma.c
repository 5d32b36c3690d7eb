/* SPDX-License-Identifier: MIT */
/*
 * numa_libnuma.c - knows the machine's own nodes.
 *
 * The kernel's node numbers may have holes. Ours have none, because they index arrays and zones;
 * os_node[] translates back. All nodes that there can be on this machine have a number: also those
 * that are offline or have no memory, since they may get some while we run, and those that a cpuset
 * keeps from this process, since clients' pages may lie there. So the numbers never change. Whether
 * a node has memory is asked when it matters (usable()).
 *
 * move_pages() without target nodes says where pages lie and moves nothing. It needs the right to
 * ptrace the process, which the serving daemon has for few; it puts another process's answer in the
 * place of its own question (src/daemon/surveyor.h).
 *
 * A policy of the calling thread says where frames come to lie. One of the arena itself would hold
 * for what clients copy from it, too.
 */
#include "numa/numa_libnuma.h"

#include <errno.h>
#include <numa.h>
#include <numaif.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_OS_NODES 1024 /* CONFIG_NODES_SHIFT is at most 10 */

struct libnuma_topology {
	struct numa_topology t;
	int8_t nid_of[MAX_OS_NODES];  /* our number of each of the kernel's, -1: none */
	_Atomic uint64_t with_memory; /* bit per node: when usable() was asked last */
};

static int query(void *arg, pid_t pid, void **page, int nr, int *status)
{
	(void)arg;
	return move_pages(pid, (unsigned long)nr, page, NULL, status, 0) < 0 ? -errno : 0;
}

static void libnuma_page_nids(struct numa_topology *t, pid_t pid, const uint64_t *addr, int nr,
			      int *nids)
{
	struct libnuma_topology *lt = (struct libnuma_topology *)t;
	int status[NUMA_MAX_QUERY];
	void *page[NUMA_MAX_QUERY];
	bool known;

	for (int i = 0; i < nr; i++)
		page[i] = (void *)(uintptr_t)addr[i];
	/* Whoever else asks for us has an address space of its own. */
	known = pid ? t->query(t->query_arg, pid, page, nr, status) == 0 :
		      query(NULL, 0, page, nr, status) == 0;
	for (int i = 0; i < nr; i++) {
		int os = known ? status[i] : -1;

		nids[i] = os >= 0 && os < MAX_OS_NODES ? lt->nid_of[os] : -1;
	}
}

/* The kernel reads one bit less than maxnode says. */
#define MASK_BITS (MAX_OS_NODES + 1)
struct node_mask {
	unsigned long bit[MAX_OS_NODES / (8 * sizeof(long))];
};

static struct node_mask mask_of(const struct numa_topology *t, int nid)
{
	unsigned int os = (unsigned int)t->os_node[nid], per = 8 * sizeof(long);
	struct node_mask m = { { 0 } };

	m.bit[os / per] = 1ul << (os % per);
	return m;
}

/* Preferred, not bound: a full node must not make merging fail. */
static int libnuma_prefer(struct numa_topology *t, int nid)
{
	struct node_mask m;

	if (t->nr_nodes == 1)
		return 0;
	if (nid < 0)
		return set_mempolicy(MPOL_DEFAULT, NULL, 0) ? -errno : 0;
	m = mask_of(t, nid);
	return set_mempolicy(MPOL_PREFERRED, m.bit, MASK_BITS) ? -errno : 0;
}

static int libnuma_place(struct numa_topology *t, void *addr, size_t len, int nid)
{
	struct node_mask m = mask_of(t, nid);

	return mbind(addr, len, MPOL_PREFERRED, m.bit, MASK_BITS, 0) ? -errno : 0;
}

/*
 * The kernel compares a new policy with the mapping's, not with the file's, and does nothing where
 * they are equal. So the mapping gets one that says what no policy says, and loses it again.
 */
static int libnuma_unbind(struct numa_topology *t, void *addr, size_t len)
{
	if (t->nr_nodes == 1)
		return 0;
	return mbind(addr, len, MPOL_LOCAL, NULL, 0, 0) ||
			       mbind(addr, len, MPOL_DEFAULT, NULL, 0, 0) ?
		       -errno :
		       0;
}

_Static_assert(sizeof(uint64_t) == sizeof(void *), "addresses are what the kernel takes");

/*
 * Where a page is busy the kernel gives up what comes behind it as well, and says how many it left.
 * These are tried again, a few at a time.
 */
static int libnuma_move(struct numa_topology *t, const uint64_t *addr, int nr, int nid)
{
	enum { FEW = 64 };
	void **page = (void **)(uintptr_t)addr;
	int to[NUMA_MAX_MOVE], status[NUMA_MAX_MOVE];
	long left;

	for (int i = 0; i < NUMA_MAX_MOVE; i++)
		to[i] = t->os_node[nid];
	left = move_pages(0, (unsigned long)nr, page, to, status, MPOL_MF_MOVE_ALL);
	if (left < 0)
		return errno == EPERM || errno == ENOSYS ? -errno : 0;
	/* A page that could not be moved is no error; whoever wants to know where it is asks. */
	for (int i = 0; i < nr && left; i += FEW)
		move_pages(0, (unsigned long)(nr - i < FEW ? nr - i : FEW), page + i, to, status,
			   MPOL_MF_MOVE_ALL);
	return 0;
}

static bool look_for_memory(struct libnuma_topology *lt, int nid)
{
	bool has = numa_node_size64(lt->t.os_node[nid], NULL) > 0;

	if (has)
		atomic_fetch_or(&lt->with_memory, 1ull << nid);
	else
		atomic_fetch_and(&lt->with_memory, ~(1ull << nid));
	return has;
}

/* A cpuset may change at any time, and memory come and go. */
static int libnuma_usable(struct numa_topology *t, int nid)
{
	unsigned long mask[MAX_OS_NODES / (8 * sizeof(long))] = { 0 };
	unsigned int os = (unsigned int)t->os_node[nid];

	if (t->nr_nodes == 1)
		return 0;
	if (!look_for_memory((struct libnuma_topology *)t, nid))
		return -ENODEV;
	if (get_mempolicy(NULL, mask, MAX_OS_NODES, NULL, MPOL_F_MEMS_ALLOWED))
		return -errno;
	return mask[os / (8 * sizeof(long))] >> (os % (8 * sizeof(long))) & 1 ? 0 : -EPERM;
}

static uint64_t libnuma_room(struct numa_topology *t, int nid)
{
	long long room;

	return numa_node_size64(t->os_node[nid], &room) > 0 && room > 0 ? (uint64_t)room : 0;
}

static uint64_t libnuma_moves(struct numa_topology *t)
{
	static const char key[] = "pgmigrate_success ";
	uint64_t nr = 0;
	char line[128];
	FILE *f;

	f = t->nr_nodes > 1 ? fopen("/proc/vmstat", "re") : NULL;
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, sizeof(key) - 1))
			nr = strtoull(line + sizeof(key) - 1, NULL, 10);
	if (f)
		fclose(f);
	return nr;
}

/* Of the nodes with memory, the one that is nearest to a node without; -1: there is none. */
static int nearest(const struct numa_topology *t, int os, uint64_t with_memory)
{
	int best = -1;

	for (int nid = 0; nid < t->nr_nodes; nid++) {
		if (!(with_memory >> nid & 1))
			continue;
		if (best < 0 ||
		    numa_distance(os, t->os_node[nid]) < numa_distance(os, t->os_node[best]))
			best = nid;
	}
	return best;
}

static int libnuma_cpu_nid(struct numa_topology *t, int cpu, const char *name)
{
	struct libnuma_topology *lt = (struct libnuma_topology *)t;
	uint64_t with_memory = atomic_load(&lt->with_memory);
	int os, nid;

	(void)name;
	if (t->nr_nodes == 1)
		return 0;
	os = cpu < 0 ? -1 : numa_node_of_cpu(cpu);
	if (os < 0 || os >= MAX_OS_NODES)
		return -1;
	nid = lt->nid_of[os];
	return nid >= 0 && (with_memory >> nid & 1) ? nid : nearest(t, os, with_memory);
}

/* Is the number in the kernel's list? "0-1,4" */
static bool is_listed(const char *list, int nr)
{
	bool in = false;

	for (const char *at = list; *at >= '0' && *at <= '9' && !in; at += *at == ',') {
		long first = strtol(at, (char **)&at, 10), last = first;

		if (*at == '-')
			last = strtol(at + 1, (char **)&at, 10);
		in = nr >= first && nr <= last;
	}
	return in;
}

/* CPUs come and go, so the kernel is asked each time; libnuma keeps what it read first. */
static void libnuma_cpus(struct numa_topology *t, int nid, cpu_set_t *set)
{
	char path[64], list[4096] = "";
	FILE *f;

	CPU_ZERO(set);
	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/cpulist", t->os_node[nid]);
	f = fopen(path, "re");
	if (!f)
		return;
	if (!fgets(list, sizeof(list), f))
		*list = 0;
	fclose(f);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (is_listed(list, cpu))
			CPU_SET(cpu, set);
}

static void libnuma_free(struct numa_topology *t)
{
	free(t);
}

static const struct numa_topology_ops libnuma_ops = {
	.page_nids = libnuma_page_nids,
	.prefer = libnuma_prefer,
	.unbind = libnuma_unbind,
	.place = libnuma_place,
	.move = libnuma_move,
	.usable = libnuma_usable,
	.room = libnuma_room,
	.moves = libnuma_moves,
	.cpu_nid = libnuma_cpu_nid,
	.cpus = libnuma_cpus,
	.free = libnuma_free,
};

static void number_node(struct libnuma_topology *lt, int os)
{
	if (lt->t.nr_nodes == NUMA_MAX_NODES || lt->nid_of[os] >= 0)
		return;
	lt->nid_of[os] = (int8_t)lt->t.nr_nodes;
	lt->t.os_node[lt->t.nr_nodes++] = os;
}

/*
 * Number the nodes; none where it cannot be found out. Where there can be more than we have numbers
 * for, those with memory come first.
 */
static void number_nodes(struct libnuma_topology *lt)
{
	char list[1024] = "";
	int possible = 0;
	FILE *f;

	if (numa_available() < 0)
		return;
	f = fopen("/sys/devices/system/node/possible", "re");
	if (f) {
		if (!fgets(list, sizeof(list), f))
			*list = 0;
		fclose(f);
	}
	for (int os = 0; os < MAX_OS_NODES; os++)
		possible += is_listed(list, os);
	for (int os = 0; os < MAX_OS_NODES && (!possible || possible > NUMA_MAX_NODES); os++)
		if (numa_node_size64(os, NULL) > 0)
			number_node(lt, os);
	for (int os = 0; os < MAX_OS_NODES; os++)
		if (is_listed(list, os))
			number_node(lt, os);
	for (int nid = 0; nid < lt->t.nr_nodes; nid++)
		look_for_memory(lt, nid);
}

/* The kernel says 0 where it does not know. */
static void measure(struct numa_topology *t)
{
	for (int a = 0; a < t->nr_nodes; a++)
		for (int b = 0; b < t->nr_nodes; b++) {
			int d = t->nr_nodes > 1 ? numa_distance(t->os_node[a], t->os_node[b]) : 0;

			if (a == b)
				d = NUMA_HERE;
			else if (d <= NUMA_HERE || d > NUMA_FAR)
				d = d > NUMA_FAR ? NUMA_FAR : 2 * NUMA_HERE;
			t->distance[a][b] = (uint8_t)d;
		}
}

struct numa_topology *numa_libnuma_new(void)
{
	struct libnuma_topology *lt = calloc(1, sizeof(*lt));

	if (!lt)
		return NULL;
	lt->t.ops = &libnuma_ops;
	lt->t.query = query;
	for (int os = 0; os < MAX_OS_NODES; os++)
		lt->nid_of[os] = -1;
	number_nodes(lt);
	if (lt->t.nr_nodes == 0) {
		lt->nid_of[0] = 0;
		lt->t.nr_nodes = 1;
	}
	measure(&lt->t);
	return &lt->t;
}
