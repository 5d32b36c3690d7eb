/* SPDX-License-Identifier: MIT */
/* readers.c - see readers.h. */
#include "daemon/readers.h"

#include <stdlib.h>
#include <urcu.h>

#include "base/clock.h"
#include "base/span.h"
#include "daemon/client_view.h"
#include "daemon/runs_on.h"

#define ROUND_MS 500     /* between two rounds over all clients, at least */
#define SLICE_NS 1000000 /* CPU time of a step, about; 20 to 30 us for each thread looked at */
#define PARTS 200        /* the steps take no more than one part in so many of a core */

static void tell(struct clients *c, pid_t pid, int nid)
{
	struct session *s;

	rcu_read_lock();
	s = clients_find(c, pid);
	if (s && s->mm)
		engine_mm_set_reader(s->mm, nid);
	rcu_read_unlock();
}

uint64_t readers_step(struct readers *r, struct clients *c, struct numa_topology *t)
{
	uint64_t now = clock_ms(), begun = clock_thread_cpu_ns(), cost = 0;

	if (now < r->due_ms)
		return r->due_ms;
	if (!r->pid) {
		r->pid = client_pids(c, &r->nr);
		r->next = 0;
	}
	while (r->pid && r->next < r->nr && cost < SLICE_NS) {
		pid_t pid = r->pid[r->next++];

		tell(c, pid, runs_on(t, pid, RUNS_ON_THREADS));
		cost = clock_thread_cpu_ns() - begun;
	}
	r->due_ms = now + u64_max(cost * PARTS / 1000000, 1);
	if (!r->pid || r->next == r->nr) {
		readers_deinit(r);
		r->due_ms = u64_max(r->due_ms, now + ROUND_MS);
	}
	return r->due_ms;
}

void readers_deinit(struct readers *r)
{
	free(r->pid);
	r->pid = NULL;
}
