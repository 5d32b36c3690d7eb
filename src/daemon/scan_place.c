/* SPDX-License-Identifier: MIT */
/*
 * scan_place.c - see scan_place.h.
 *
 * Workers are dealt out to the nodes in turn, each node getting as many as it has CPUs before any
 * gets more. So few workers are on many nodes, and many lie as the CPUs do. When a cpuset changes
 * the kernel narrows each thread's CPUs itself, to all of the cpuset where none is left. Binding
 * again afterwards only makes it right, so it may be late.
 */
#include "daemon/scan_place.h"

#include <errno.h>
#include <unistd.h>

#define LOOK_MS 60000 /* memory of nodes comes and goes, and nobody tells */

bool scan_place_allowed(cpu_set_t *out)
{
	return sched_getaffinity(getpid(), sizeof(*out), out) == 0;
}

void scan_place_cpus(struct numa_topology *t, const cpu_set_t *allowed, int nid, cpu_set_t *out)
{
	int best = -1;

	for (int n = 0; n < t->nr_nodes; n++) {
		cpu_set_t set;

		if (best >= 0 && t->distance[nid][n] >= t->distance[nid][best])
			continue;
		t->ops->cpus(t, n, &set);
		CPU_AND(&set, &set, allowed);
		if (!CPU_COUNT(&set))
			continue;
		*out = set;
		best = n;
	}
	if (best < 0)
		CPU_ZERO(out);
}

void scan_place_init(struct scan_place *p, struct numa_topology *t)
{
	*p = (struct scan_place){ .topology = t };
	for (unsigned int i = 0; i < ENGINE_WORKERS; i++) {
		p->nid[i] = -1;
		p->at[i] = -1;
	}
}

/* Workers that a node gets before others get more: its CPUs; one if it has none; 0: no memory. */
static void count_cpus(const struct scan_place *p, unsigned int *share)
{
	struct numa_topology *t = p->topology;

	for (int nid = 0; nid < t->nr_nodes; nid++) {
		cpu_set_t set;

		share[nid] = 0;
		if (t->ops->usable(t, nid) == -ENODEV)
			continue;
		t->ops->cpus(t, nid, &set);
		CPU_AND(&set, &set, &p->allowed);
		share[nid] = (unsigned int)CPU_COUNT(&set);
		share[nid] += !share[nid];
	}
}

static void deal_out(struct scan_place *p)
{
	unsigned int share[NUMA_MAX_NODES], left[NUMA_MAX_NODES] = { 0 }, sum = 0;
	int nr = p->topology->nr_nodes, nid = 0;

	count_cpus(p, share);
	for (int n = 0; n < nr; n++)
		sum += share[n];
	for (unsigned int i = 0; i < ENGINE_WORKERS; i++, nid = (nid + 1) % nr) {
		p->nid[i] = -1;
		if (!sum)
			continue; /* nothing is known of any node */
		for (int n = 0; n < nr && i % sum == 0; n++)
			left[n] = share[n];
		while (!left[nid])
			nid = (nid + 1) % nr;
		left[nid]--;
		p->nid[i] = (int8_t)nid;
	}
	p->seq++;
}

void scan_place_look(struct scan_place *p, uint64_t now_ms)
{
	cpu_set_t now;

	if (p->topology->nr_nodes == 1 || !scan_place_allowed(&now))
		return;
	if (p->seq && now_ms < p->due_ms && CPU_EQUAL(&now, &p->allowed))
		return;
	p->allowed = now;
	p->due_ms = now_ms + LOOK_MS;
	deal_out(p);
}

int scan_place_bind(struct scan_place *p, unsigned int worker)
{
	struct scan_place_bound *b = &p->bound[worker];
	int nid = p->nid[worker];
	cpu_set_t set;

	if (p->topology->nr_nodes == 1 || nid < 0 || (b->seq == p->seq && b->tid == gettid()))
		return nid;
	scan_place_cpus(p->topology, &p->allowed, nid, &set);
	if (!CPU_COUNT(&set))
		set = p->allowed;
	/* It fails if these CPUs have just gone. The kernel has found others, and we look again. */
	p->at[worker] = sched_setaffinity(0, sizeof(set), &set) ? -1 : (int8_t)nid;
	*b = (struct scan_place_bound){ gettid(), p->seq };
	return nid;
}

void scan_place_rest(struct scan_place *p)
{
	for (unsigned int i = 1; i < ENGINE_WORKERS; i++)
		p->at[i] = -1;
}

unsigned int scan_place_nr(const struct scan_place *p, int nid)
{
	unsigned int nr = 0;

	for (unsigned int i = 0; i < ENGINE_WORKERS; i++)
		nr += p->at[i] == nid;
	return nr;
}
