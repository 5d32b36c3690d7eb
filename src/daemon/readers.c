/* SPDX-License-Identifier: MIT */
/* readers.c - see readers.h. */
#include "daemon/readers.h"

#include <stdlib.h>
#include <urcu.h>

#include "base/clock.h"
#include "base/span.h"
#include "daemon/client_view.h"
#include "daemon/runs_on.h"

#define ROUND_MS 500      /* between two rounds over all clients, at least */
#define ROUND_MAX_MS 8000 /* the same where nobody has moved for a while, and no frame would */
#define SLICE_NS 1000000  /* CPU time of a step, about; 20 to 30 us for each thread looked at */
#define PARTS 200         /* the steps take no more than one part in so many of a core */

/* True: it ran elsewhere before. */
static bool tell(struct clients *c, pid_t pid, int nid)
{
	struct session *s;
	bool moved;

	rcu_read_lock();
	s = clients_find(c, pid);
	moved = s && s->mm && engine_mm_set_reader(s->mm, nid);
	rcu_read_unlock();
	return moved;
}

static void begin(struct readers *r, struct clients *c)
{
	unsigned int nr = r->nr;

	r->pid = client_pids(c, &r->nr);
	r->next = 0;
	r->moved = r->nr != nr;
}

/* How long after the round that has ended the next one comes. */
static uint64_t pause(struct readers *r)
{
	r->pause_ms = r->moved ? ROUND_MS : u64_min(2 * r->pause_ms, ROUND_MAX_MS);
	return r->pause_ms;
}

uint64_t readers_step(struct readers *r, struct clients *c, struct numa_topology *t, bool hurry)
{
	uint64_t now = clock_ms(), begun = clock_thread_cpu_ns(), cost = 0;

	if (hurry)
		r->due_ms = u64_min(r->due_ms, r->hurry_ms);
	if (now < r->due_ms)
		return r->due_ms;
	if (!r->pid)
		begin(r, c);
	while (r->pid && r->next < r->nr && cost < SLICE_NS) {
		pid_t pid = r->pid[r->next++];

		r->moved |= tell(c, pid, runs_on(t, pid, RUNS_ON_THREADS));
		cost = clock_thread_cpu_ns() - begun;
	}
	r->due_ms = r->hurry_ms = now + u64_max(cost * PARTS / 1000000, 1);
	if (!r->pid || r->next == r->nr) {
		readers_deinit(r);
		r->hurry_ms = u64_max(r->due_ms, now + ROUND_MS);
		r->due_ms = u64_max(r->due_ms, now + (hurry ? ROUND_MS : pause(r)));
	}
	return r->due_ms;
}

void readers_deinit(struct readers *r)
{
	free(r->pid);
	r->pid = NULL;
}
