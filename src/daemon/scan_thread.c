/* SPDX-License-Identifier: MIT */
/*
 * scan_thread.c - see scan_thread.h.
 *
 * A pass visits every region of every client once. Domains are taken in turn; one that has finished
 * its part waits for the others, so that a pass means the same for all of them. Between batches of
 * pages_to_scan pages the thread sleeps sleep_millisecs, as the kernel's does.
 *
 * Where there is much to read, other threads scan other clients at the same time (scan_threads, by
 * default one for each CPU): two processes of 512 MiB are merged in half the time.
 *
 * Where a pass found nothing written, and no merge is under way, the next pass will hardly find
 * more: the pause after it doubles, up to max_idle_millisecs. So calm memory costs next to nothing,
 * and memory that starts to change is seen within that time. Without clients the thread sleeps.
 */
#include "daemon/scan_thread.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

#include "base/clock.h"
#include "daemon/crew.h"
#include "daemon/daemon.h"
#include "base/log.h"
#include "engine/advisor.h"

/* Pages between two looks at `run` and at the request to stop: a millisecond of work, so that a
 * large pages_to_scan delays neither. */
#define SLICE_PAGES 1024
/* Pages that must have been read before others are woken to help: a millisecond of work, some fifty
 * times what waking costs. */
#define ALONE_PAGES 1024
/* Orders for a part of a block wait for more of it, but no longer than this in a pass. */
#define HOLD_MS 1000
/* While nothing but orders is under way, look for answers that often; after so many looks without one,
 * or max_idle_millisecs, look for written pages again. */
#define SETTLE_MS 1
#define SETTLE_LOOKS 50
#define SETTLE_MORE 200 /* after an answer: its sender is alive, if slow */

struct scan {
	struct daemon *d;
	pthread_t thread;

	bool started;
	_Atomic bool stop;
	_Atomic uint64_t cpu_ns, pause_ms;
	struct crew *crew;
	unsigned int nr_cpus;

	/* The rest belongs to the thread. */
	bool in_pass;
	uint64_t pass_start_ms, pass_cpu_ns, pass_pages;
	uint64_t pass_scanned; /* pages_scanned at the start of the pass */
	uint64_t flushed_ms;   /* when all orders were sent last */
	unsigned int looks;    /* still to be taken for orders to settle, before the next pass */
	uint64_t settle_ms;    /* when the looks began; 0: take no more of them than were planned */
	uint64_t settle_orders; /* the fewest seen */
	struct advisor advisor;
	bool advising;
};

static uint32_t knob(const struct scan *s, enum knob_id id)
{
	return knob_get(&s->d->knobs, id);
}

/* The scan thread's and its helpers'. */
static uint64_t cpu_ns(const struct scan *s)
{
	return clock_thread_cpu_ns() + crew_cpu_ns(s->crew);
}

static bool must_stop(const struct scan *s)
{
	return s->stop;
}

/*
 * Sleep until kicked, told to stop, or ms have passed (CLOCK_NEVER: no limit). A hint cuts the pause
 * short, to sleep_millisecs and no further: clients cause hints, and must not set our pace.
 */
static void nap(struct scan *s, uint64_t ms)
{
	uint64_t least = clock_min(knob(s, KNOB_SLEEP_MILLISECS), ms), start = clock_ms();
	uint32_t bits = 0, rung;

	do {
		uint64_t limit = bits & SCAN_HINT ? least : ms;

		rung = bell_wait(&s->d->scan_bell, limit == CLOCK_NEVER ? limit : start + limit);
		bits |= rung;
	} while (rung && !(bits & (SCAN_KICK | SCAN_STOP)));
	if (bits & (SCAN_KICK | SCAN_HINT)) { /* there is something new to see */
		s->pause_ms = s->settle_ms = 0;
		s->looks = s->looks < SETTLE_LOOKS ? s->looks : SETTLE_LOOKS;
	}
}

/* ---- a pass ---- */

/* What tells a pass that found something from one that did not. */
struct findings {
	uint64_t pages_scanned, nr_orders;
};

static struct findings look(struct domain **v, unsigned int nr)
{
	struct engine_counters c = { 0 };
	struct findings f = { 0 };

	for (unsigned int i = 0; i < nr; i++) {
		engine_counters(v[i]->engine, &c);
		f.nr_orders += engine_nr_orders(v[i]->engine);
	}
	f.pages_scanned = c.pages_scanned;
	return f;
}

static void pass_begin(struct scan *s, struct domain **v, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		v[i]->pass_done = false;
	s->in_pass = true;
	s->pass_start_ms = s->flushed_ms = clock_ms();
	s->pass_cpu_ns = cpu_ns(s);
	s->pass_pages = 0;
	s->pass_scanned = look(v, nr).pages_scanned;
}

static void advise(struct scan *s)
{
	struct advisor_input in = {
		.scan_ms = clock_ms() - s->pass_start_ms,
		.cpu_ms = (cpu_ns(s) - s->pass_cpu_ns) / 1000000,
		.pages = s->pass_pages,
	};
	bool on = knob(s, KNOB_ADVISOR_MODE) == KSM_ADVISOR_SCAN_TIME;

	if (on && !s->advising)
		memset(&s->advisor, 0, sizeof(s->advisor));
	s->advising = on;
	if (on)
		atomic_store_explicit(&s->d->knobs.v[KNOB_PAGES_TO_SCAN],
				      advisor_pages_to_scan(&s->advisor, &in, &s->d->knobs),
				      memory_order_relaxed);
}

/* Returns how long to sleep now. */
static uint64_t pass_end(struct scan *s, struct domain **v, unsigned int nr)
{
	uint64_t pause = knob(s, KNOB_SLEEP_MILLISECS), max = knob(s, KNOB_MAX_IDLE_MILLISECS);
	struct findings f = look(v, nr);

	s->in_pass = false;
	s->d->full_scans++;
	advise(s);
	if (f.nr_orders) {
		s->pause_ms = 0;
		s->looks = SETTLE_LOOKS;
		s->settle_ms = clock_ms();
		s->settle_orders = f.nr_orders;
		return pause > SETTLE_MS ? pause : SETTLE_MS;
	}
	if (f.pages_scanned != s->pass_scanned) {
		s->pause_ms = 0;
		return pause;
	}
	crew_rest(s->crew);
	/* 1: sleep_millisecs may be 0, which does not double. */
	s->pause_ms = s->pause_ms ? s->pause_ms * 2 : pause ? pause : 1;
	if (s->pause_ms > max)
		s->pause_ms = max;
	return s->pause_ms > pause ? s->pause_ms : pause;
}

static bool scanning(const struct scan *s)
{
	return knob(s, KNOB_RUN) == KSM_RUN_MERGE && !must_stop(s);
}

/* One domain's share of a batch, worked off by one thread or several. */
struct share {
	struct scan *s;
	struct domain *d;
	_Atomic int64_t budget;
};

/* Take at most `most` of the budget. 0: there is none left. */
static int64_t take(struct share *sh, int64_t most)
{
	int64_t have = sh->budget, want;

	do {
		want = have < most ? have : most;
		if (want <= 0)
			return 0;
	} while (!atomic_compare_exchange_weak(&sh->budget, &have, have - want));
	return want;
}

/* Scan until the domain's part of the pass is done, or nothing is left to do for this worker. */
static void work(void *arg, unsigned int worker)
{
	struct share *sh = arg;
	int64_t slice, left;
	enum engine_scan r = ENGINE_SCAN_BUDGET;

	/* Once one worker has ended the pass another would begin the next. */
	while (r == ENGINE_SCAN_BUDGET && !sh->d->pass_done && scanning(sh->s) &&
	       (slice = take(sh, SLICE_PAGES)) > 0) {
		left = slice;
		r = engine_scan(sh->d->engine, worker, &left);
		/* An engine that makes no progress must not hold us. */
		sh->budget += left < slice ? left : left - 1;
		engine_flush(sh->d->engine, ENGINE_FLUSH_RIPE);
	}
	if (r == ENGINE_SCAN_PASS)
		sh->d->pass_done = true;
}

static unsigned int helpers(const struct scan *s, const struct domain *d)
{
	unsigned int want = knob(s, KNOB_SCAN_THREADS), clients = d->nr_clients;

	if (!want)
		want = s->nr_cpus;
	want = want < clients ? want : clients;
	return want ? want - 1 : 0;
}

/* Alone at first, with help when that was not enough; not at all without budget, or when it is done. */
static void scan_domain(struct scan *s, struct domain *d, int64_t *budget)
{
	int64_t alone = *budget < ALONE_PAGES ? *budget : ALONE_PAGES;
	struct share sh = { .s = s, .d = d, .budget = alone };

	work(&sh, 0);
	if (!d->pass_done && *budget > alone) {
		sh.budget += *budget - alone;
		crew_run(s->crew, helpers(s, d), work, &sh);
	}
	s->pass_pages += (uint64_t)(*budget - sh.budget);
	*budget = sh.budget;
}

/*
 * Send what clients can take now. Returns true if another look is worth it before the next pass: as long as
 * answers come, for merging is a part of the pass that found the pages; but what is written meanwhile is
 * seen no later than after a pause.
 */
static bool settle(struct scan *s)
{
	unsigned int nr;
	struct domain **v = domain_table_snapshot(&s->d->domains, &nr);
	uint64_t orders = 0;

	for (unsigned int i = 0; i < nr; i++) {
		engine_flush(v[i]->engine, ENGINE_FLUSH_PASS);
		orders += engine_nr_orders(v[i]->engine);
	}
	domain_snapshot_free(v, nr);
	s->looks = orders ? s->looks - 1 : 0;
	if (orders && orders < s->settle_orders && s->settle_ms &&
	    clock_ms() - s->settle_ms < knob(s, KNOB_MAX_IDLE_MILLISECS)) {
		s->settle_orders = orders;
		s->looks = SETTLE_MORE;
	}
	return s->looks > 0;
}

/* One batch. Returns how long to sleep after it. */
static uint64_t batch(struct scan *s)
{
	int64_t budget = knob(s, KNOB_PAGES_TO_SCAN);
	uint64_t pause = knob(s, KNOB_SLEEP_MILLISECS);
	bool hold_over = clock_ms() - s->flushed_ms >= HOLD_MS;
	unsigned int nr, active = 0, done = 0;
	struct domain **v = domain_table_snapshot(&s->d->domains, &nr);

	if (!s->in_pass)
		pass_begin(s, v, nr);
	if (hold_over)
		s->flushed_ms = clock_ms();
	for (unsigned int i = 0; i < nr; i++) {
		/* A domain whose clients have all gone has nothing to scan. */
		if (!v[i]->nr_clients)
			continue;
		active++;
		scan_domain(s, v[i], &budget);
		engine_flush(v[i]->engine, v[i]->pass_done ? ENGINE_FLUSH_PASS :
					   hold_over       ? ENGINE_FLUSH_ALL :
							     ENGINE_FLUSH_RIPE);
		done += v[i]->pass_done;
		if (engine_nr_retired(v[i]->engine))
			bell_ring(&s->d->client_bell, CLIENTS_RETIRED);
	}
	if (!active) {
		s->in_pass = false;
		pause = CLOCK_NEVER;
	} else if (done == active) {
		pause = pass_end(s, v, nr);
	}
	domain_snapshot_free(v, nr);
	s->cpu_ns = cpu_ns(s);
	return pause;
}

/* No order goes out any more; those under way are answered. */
static void cancel_orders(struct scan *s)
{
	unsigned int nr;
	struct domain **v = domain_table_snapshot(&s->d->domains, &nr);

	for (unsigned int i = 0; i < nr; i++)
		engine_cancel_orders(v[i]->engine);
	domain_snapshot_free(v, nr);
}

/*
 * `run` is 0: nothing happens until it is changed, so what waits to be ordered must not go on waiting.
 * The pages are looked at again when it is.
 */
static void halt(struct scan *s)
{
	cancel_orders(s);
	s->looks = 0;
	nap(s, CLOCK_NEVER);
}

/* `run` is 2: let the clients unmerge. */
static void quiesce(struct scan *s)
{
	cancel_orders(s);
	s->in_pass = false;
	s->d->full_scans = 0;
	if (unmerge_job_move(&s->d->unmerge, UNMERGE_SEND))
		bell_ring(&s->d->client_bell, CLIENTS_UNMERGE);
}

static void *scan_main(void *arg)
{
	struct scan *s = arg;

	rcu_register_thread();
	crew_nice();
	while (!must_stop(s)) {
		if (s->d->unmerge.state == UNMERGE_QUIESCE)
			quiesce(s);
		else if (scanning(s) && s->looks)
			nap(s, settle(s) ? SETTLE_MS : 0);
		else if (scanning(s))
			nap(s, batch(s));
		else
			halt(s);
	}
	rcu_unregister_thread();
	return NULL;
}

/* ---- life ---- */

static unsigned int count_cpus(void)
{
	cpu_set_t set;

	/* More than a cpu_set_t holds: then certainly more than there are workers. */
	if (sched_getaffinity(0, sizeof(set), &set))
		return ENGINE_WORKERS;
	return (unsigned int)CPU_COUNT(&set);
}

struct scan *scan_new(struct daemon *d)
{
	struct scan *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return NULL;
	s->d = d;
	s->nr_cpus = count_cpus();
	s->crew = crew_new(ENGINE_WORKERS - 1);
	err = s->crew ? bell_init(&d->scan_bell) : -errno;
	if (!err)
		return s;
	crew_free(s->crew);
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

void scan_stop(struct scan *s)
{
	if (!s->started)
		return;
	s->stop = true;
	bell_ring(&s->d->scan_bell, SCAN_STOP);
	pthread_join(s->thread, NULL);
	s->started = false;
}

void scan_free(struct scan *s)
{
	bell_deinit(&s->d->scan_bell);
	crew_free(s->crew);
	free(s);
}

void scan_stats(struct scan *s, struct scan_stats *out)
{
	out->full_scans = s->d->full_scans;
	out->cpu_ns = s->cpu_ns;
	out->pause_ms = s->pause_ms;
}
