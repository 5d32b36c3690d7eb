/* SPDX-License-Identifier: MIT */
/*
 * scan_thread.c - see scan_thread.h. The thread sleeps, answers its bell and takes its part in the
 * unmerge job; what it does while it is awake is in scan_pass.c.
 */
#include "daemon/scan_thread.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <urcu.h>

#include "base/clock.h"
#include "base/thread.h"
#include "daemon/client_view.h"
#include "daemon/crew.h"
#include "daemon/daemon.h"
#include "daemon/delay.h"
#include "daemon/patience.h"
#include "daemon/scan_pass.h"

/* A store of 0 to `run` is answered after so long at the latest, with time to spare to 10 s. */
#define REST_MS 8000
#define STOP_MS 500 /* its slice of work takes milliseconds */
#define LOOK_MS 1   /* clients answer within milliseconds */

struct scan {
	struct daemon *d;
	pthread_t thread;
	bool started;
	_Atomic bool stop;
	struct scan_pass pass; /* the thread's */

	/* While `run` comes to be 0. */
	bool resting;
	struct patience patience;
};

/*
 * Sleep until kicked, told to stop, or ms have passed (CLOCK_NEVER: no limit). A hint cuts the
 * pause short, to sleep_millisecs and what max_cpu_percent asks for, and no further: clients cause
 * hints, and must not set our pace.
 */
static void nap(struct scan *s, uint64_t ms)
{
	uint64_t sleep_ms = knob_get(&s->d->knobs, KNOB_SLEEP_MILLISECS);
	uint64_t least = u64_min(u64_max(sleep_ms, s->pass.least_ms), ms);
	uint64_t start = clock_ms();
	uint32_t bits = 0, rung;

	do {
		uint64_t limit = bits & SCAN_HINT ? least : ms;

		rung = bell_wait(&s->d->scan_bell, limit == CLOCK_NEVER ? limit : start + limit);
		bits |= rung;
		if (rung & SCAN_PING)
			s->d->beats[BEAT_SCAN]++;
	} while (rung && !(bits & (SCAN_KICK | SCAN_STOP)));
	if (bits & (SCAN_KICK | SCAN_HINT))
		scan_pass_hasten(&s->pass);
}

/* Orders of before are under way. Is it worth waiting for their answers? Not if a store waits. */
static bool answers_come(struct scan *s)
{
	uint64_t orders = scan_pass_orders(&s->pass), now = clock_ms();

	if (!s->resting)
		patience_begin(&s->patience, orders, now);
	s->resting = true;
	return orders && !s->d->unmerge.hurry && !patience_lost(&s->patience, orders, now, REST_MS);
}

/* `run` is 0: answer the store when nothing is being merged any more. */
static void come_to_rest(struct scan *s)
{
	struct unmerge_job *job = &s->d->unmerge;
	pid_t pids[UNMERGE_NAMED * 2];
	unsigned int nr;

	scan_pass_halt(&s->pass);
	if (answers_come(s)) {
		nap(s, LOOK_MS);
		return;
	}
	s->resting = false;
	job->refused.nr = job->silent.nr = 0;
	nr = client_debtors(s->d->clients, pids, sizeof(pids) / sizeof(pids[0]));
	for (unsigned int i = 0; i < nr; i++)
		unmerge_pids_add(&job->silent, (int)pids[i]);
	job->error = nr ? ETIMEDOUT : 0;
	if (unmerge_job_move(job, UNMERGE_DONE))
		bell_ring(&s->d->main_bell, MAIN_UNMERGED);
}

/* `run` is 2: stop scanning, and let the client thread ask the clients to unmerge. */
static void quiesce(struct scan *s)
{
	scan_pass_halt(&s->pass);
	scan_pass_abandon(&s->pass);
	s->d->full_scans = 0;
	if (unmerge_job_move(&s->d->unmerge, UNMERGE_SEND))
		bell_ring(&s->d->client_bell, CLIENTS_UNMERGE);
}

static void *scan_main(void *arg)
{
	struct scan *s = arg;

	rcu_register_thread();
	crew_nice();
	delay_begin();
	while (!s->stop) {
		if (s->d->unmerge.state == UNMERGE_QUIESCE && s->d->unmerge.stop) {
			come_to_rest(s);
		} else if (s->d->unmerge.state == UNMERGE_QUIESCE) {
			quiesce(s);
		} else if (knob_get(&s->d->knobs, KNOB_RUN) == KSM_RUN_MERGE) {
			nap(s, scan_pass_step(&s->pass));
		} else {
			/*
			 * `run` is 0 (or 2, and done), and nothing happens until it is changed.
			 * What waits to be ordered must not go on waiting; its pages are looked at
			 * again then.
			 */
			scan_pass_halt(&s->pass);
			nap(s, CLOCK_NEVER);
		}
	}
	delay_end();
	rcu_unregister_thread();
	return NULL;
}

struct scan *scan_new(struct daemon *d)
{
	struct scan *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return NULL;
	s->d = d;
	err = scan_pass_init(&s->pass, d, &s->stop);
	if (!err)
		err = bell_init(&d->scan_bell);
	if (!err)
		return s;
	scan_pass_deinit(&s->pass);
	free(s);
	errno = -err;
	return NULL;
}

int scan_start(struct scan *s)
{
	int err = pthread_create(&s->thread, NULL, scan_main, s);

	if (err)
		return -err;
	s->started = true;
	pthread_setname_np(s->thread, "ksmd-scan");
	return 0;
}

bool scan_stop(struct scan *s)
{
	if (!s->started)
		return true;
	s->stop = true;
	bell_ring(&s->d->scan_bell, SCAN_STOP);
	s->started = !thread_join_within(s->thread, STOP_MS);
	return !s->started;
}

void scan_free(struct scan *s)
{
	bell_deinit(&s->d->scan_bell);
	scan_pass_deinit(&s->pass);
	free(s);
}

unsigned int scan_threads_on(const struct scan *s, int nid)
{
	return scan_place_nr(&s->pass.place, nid);
}

void scan_stats(struct scan *s, struct scan_stats *out)
{
	out->full_scans = s->d->full_scans;
	out->cpu_ns = s->pass.cpu_ns;
	out->pause_ms = s->pass.pause_ms;
}
