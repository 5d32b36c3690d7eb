/* SPDX-License-Identifier: MIT */
/*
 * looker.c - see looker.h.
 *
 * A page that was written is no site any more, and the daemon learns of it at the next pass, which
 * may be long after or, with `run` 0, never. The kernel counts such a page (ksm_zero_pages) when it
 * is written. So whoever reads a counter has the clients looked at first: engine_look() asks change
 * tracking and leaves no trace in it.
 *
 * Looking takes the lock of a client's address space, and a client can have its own thread hold
 * that for as long as it likes. So the main thread does not look. It waits for this thread, a
 * moment, and not at all while that is still at an earlier look: then counters are as the last pass
 * left them, and nobody is held up. The same holds when the time to look is spent. For a client it
 * is a tenth of the time that passes, which small clients do not use up; for sums over all of them,
 * which tools read often, a fiftieth.
 */
#include "daemon/looker.h"

#include <errno.h>
#include <stdlib.h>
#include <urcu.h>

#include "base/clock.h"
#include "base/thread.h"
#include "daemon/client_view.h"
#include "daemon/clients.h"
#include "daemon/daemon.h"

enum { LOOKER_LOOK = 1, LOOKER_STOP = 2, LOOKER_DONE = 4 };

#define LOOKER_WAIT_MS 100
#define STOP_MS 400 /* beside the scan thread's half second: SIGTERM ends the daemon in a second */
#define LOOK_NS 10000000u /* less than that, so that who waits sees it done */

#define ONE_PART 10u
#define ONE_MAX_NS 200000000u
#define ALL_PART 50u
/* Time for one look, so that who reads a counter every few ms does not begin with five. */
#define ALL_MAX_NS LOOK_NS

int looker_init(struct looker *l, struct daemon *d)
{
	int err;

	l->d = d;
	l->bell.event = l->answered.event = -1;
	err = bell_init(&l->bell);
	return err ? err : bell_init(&l->answered);
}

void looker_deinit(struct looker *l)
{
	bell_deinit(&l->answered);
	bell_deinit(&l->bell);
}

/* ---- the thread ---- */

static void look_at(struct looker *l, pid_t pid, uint64_t until_ns)
{
	struct mm_slot *mm = NULL;
	const struct session *s;
	uint64_t addr = 0;

	rcu_read_lock();
	s = clients_find(l->d->clients, pid);
	if (s && mm_get_live(s->mm))
		mm = s->mm;
	rcu_read_unlock();
	while (mm && engine_look(mm, &addr) > 0 && clock_ns() < until_ns)
		;
	if (mm)
		mm_put(mm);
}

/* Those behind the last one first: where time does not suffice for all, each has its turn. */
static void look_at_all(struct looker *l, uint64_t until_ns)
{
	unsigned int nr, first = 0;
	pid_t *v = client_pids(l->d->clients, &nr);

	while (first < nr && v[first] <= l->last)
		first++;
	for (unsigned int i = 0; i < nr && clock_ns() < until_ns; i++) {
		l->last = v[(first + i) % nr];
		look_at(l, l->last, until_ns);
	}
	free(v);
}

static void *looker_main(void *arg)
{
	struct looker *l = arg;

	rcu_register_thread();
	while (!(bell_wait(&l->bell, CLOCK_NEVER) & LOOKER_STOP)) {
		uint32_t asked = atomic_load(&l->asked);
		uint64_t until_ns = clock_ns() + LOOK_NS;
		pid_t pid = atomic_load(&l->pid);

		if (asked == atomic_load(&l->done))
			continue;
		if (pid)
			look_at(l, pid, until_ns);
		else
			look_at_all(l, until_ns);
		atomic_store(&l->done, asked);
		bell_ring(&l->answered, LOOKER_DONE);
	}
	rcu_unregister_thread();
	return NULL;
}

bool looker_stop(struct looker *l)
{
	if (!l->started)
		return true;
	bell_ring(&l->bell, LOOKER_STOP);
	l->started = !thread_join_within(l->thread, STOP_MS);
	return !l->started;
}

/* ---- the main thread ---- */

static bool start(struct looker *l)
{
	if (!l->started && !pthread_create(&l->thread, NULL, looker_main, l)) {
		pthread_setname_np(l->thread, "ksmd-look");
		l->started = true;
	}
	return l->started;
}

static bool fill(struct purse *p, uint64_t now_ns, uint64_t part, uint64_t max_ns)
{
	uint64_t more = u64_min((now_ns - p->filled_ns) / part, max_ns + LOOK_NS);

	p->left_ns += (int64_t)more;
	if (p->left_ns > (int64_t)max_ns)
		p->left_ns = (int64_t)max_ns;
	p->filled_ns = now_ns;
	return p->left_ns > 0;
}

/*
 * A look may begin with a little left and cost more: that is owed. But no more is owed than a look
 * takes by itself, so that whoever keeps the looker waiting stops nobody's looks for long.
 */
static void spend(struct purse *p, uint64_t ns)
{
	p->left_ns -= (int64_t)u64_min(ns, INT64_MAX / 2);
	if (p->left_ns < -(int64_t)LOOK_NS)
		p->left_ns = -(int64_t)LOOK_NS;
}

static bool answered(const struct looker *l)
{
	return atomic_load(&l->done) == atomic_load(&l->asked);
}

void looker_look(struct looker *l, pid_t pid)
{
	uint64_t now_ns = clock_ns(), until_ms = clock_ms() + LOOKER_WAIT_MS;
	struct purse *p = pid ? &l->one : &l->all;
	bool due = pid ? fill(p, now_ns, ONE_PART, ONE_MAX_NS) :
			 fill(p, now_ns, ALL_PART, ALL_MAX_NS);

	if (!due || !answered(l) || !start(l))
		return;
	atomic_store(&l->pid, pid);
	atomic_fetch_add(&l->asked, 1);
	bell_ring(&l->bell, LOOKER_LOOK);
	while (!answered(l) && clock_ms() < until_ms)
		bell_wait(&l->answered, until_ms);
	spend(p, clock_ns() - now_ns);
}
