/* SPDX-License-Identifier: MIT */
/*
 * scan_pass.c - see scan_pass.h.
 *
 * A pass visits every region of every client once. Domains take turns; a domain that has finished
 * its part waits for the others, so a pass means the same for all of them. Between batches of
 * pages_to_scan pages the thread sleeps sleep_millisecs, as the kernel's ksmd does.
 *
 * Where there is much to read, helpers scan other clients at the same time (scan_threads, by
 * default one thread for each CPU): two processes of 512 MiB are merged in half the time. Each
 * stays on the CPUs of a NUMA node, and scans clients that run there first (scan_place.h).
 *
 * A pass is counted (full_scans) when its orders have been answered, because merging is a part of
 * it: whoever has waited for two more finds merged what can be. One client that is stopped does not
 * keep passes from being counted: the orders that nobody answers are given up after SILENT_MS, and
 * later passes do not wait for them.
 *
 * After a pass that found nothing written, with no merge under way, the next pass hardly finds
 * more: the pause doubles, up to max_idle_millisecs. So calm memory costs next to nothing, and
 * memory that starts to change is seen within that time. Without clients the thread sleeps. Where
 * passes are costly and yield little, pauses are longer (rest.h).
 *
 * Such passes come in stints, too: the thread sleeps for a moment after each (rest.h).
 */
#include "daemon/scan_pass.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/span.h"
#include "base/usdt.h"
#include "daemon/crew.h"
#include "daemon/daemon.h"
#include "daemon/mover.h"

/* Pages between two looks at `run` and at the request to stop: a millisecond of work, so that a
 * large pages_to_scan delays neither. */
#define SLICE_PAGES 1024
/* Pages that one thread reads before it wakes others to help: a millisecond of work, some fifty
 * times what waking costs. */
#define ALONE_PAGES 1024
#define STINT_PAUSE_MS 1
#define STINT_SLICE 2 /* pages, or calls of change tracking, between two looks at the time */
/* Orders for a part of a block wait for more of it, but no longer than this in a pass. */
#define HOLD_MS 1000
#define ANSWERS_MS 1 /* between two polls for answers */
/* Merging rests when for so long nothing was read, and no client answered orders. */
#define CALM_MS 1000
/* A pass that ended is counted after so long at the latest, although orders are answered still. */
#define COUNT_MS 10000

static uint32_t knob(const struct scan_pass *p, enum knob_id id)
{
	return knob_get(&p->d->knobs, id);
}

/* CPU time of the scan thread and of its helpers. */
static uint64_t cpu_ns(const struct scan_pass *p)
{
	return clock_thread_cpu_ns() + crew_cpu_ns(p->crew);
}

/* Tells a pass that found something from one that did not. */
struct findings {
	uint64_t pages_scanned, pages_merged, nr_orders, rmap_items;
};

static struct findings find(struct domain **v, unsigned int nr)
{
	struct engine_counters c = { 0 };
	struct findings f = { 0 };

	for (unsigned int i = 0; i < nr; i++) {
		engine_counters(v[i]->engine, &c);
		f.nr_orders += engine_nr_orders(v[i]->engine);
	}
	f.pages_scanned = c.total.pages_scanned;
	f.pages_merged = c.total.pages_merged;
	f.rmap_items = c.pages_tracked;
	return f;
}

/* ---- counting ---- */

/*
 * Count the passes that ended, once their orders are answered. Returns how many are left that are
 * worth waiting for.
 */
static uint64_t count_passes(struct scan_pass *p, uint64_t orders)
{
	bool lost = patience_lost(&p->patience, orders, clock_ms(), COUNT_MS);

	p->given_up = u64_min(p->given_up, orders);
	if (p->owed && orders > p->given_up && lost)
		p->given_up = orders;
	if (p->owed && orders <= p->given_up) {
		p->d->full_scans += p->owed;
		p->d->passes_done += p->owed;
		p->owed = 0;
	}
	return orders - p->given_up;
}

/* A pass has ended, with so many orders under way. Returns as count_passes(). */
static uint64_t owe_pass(struct scan_pass *p, uint64_t orders)
{
	if (!p->owed++)
		patience_begin(&p->patience, orders, clock_ms());
	p->patience.fewest = orders;
	return count_passes(p, orders);
}

/* Of the pass under way; those that ended and are not counted yet have had theirs. */
static uint64_t pass_number(const struct scan_pass *p)
{
	return p->d->full_scans + p->owed;
}

static void pass_begin(struct scan_pass *p, struct domain **v, unsigned int nr)
{
	struct findings f;

	for (unsigned int i = 0; i < nr; i++) {
		v[i]->pass_done = false;
		if (v[i]->nr_clients)
			arena_drop_policy(v[i]->arena);
		domain_sweep(v[i]);
	}
	scan_place_look(&p->place, clock_ms());
	p->under_way = true;
	p->d->passes_begun = p->d->passes_done + p->owed + 1;
	p->start_ms = p->flushed_ms = clock_ms();
	p->start_cpu_ns = cpu_ns(p);
	p->thread_ns = clock_thread_cpu_ns();
	p->pages = 0;
	f = find(v, nr);
	p->scanned = f.pages_scanned;
	USDT(ksm_start_scan, (int)pass_number(p), (uint32_t)f.rmap_items);
}

static void advise(struct scan_pass *p)
{
	struct advisor_input in = {
		.scan_ms = clock_ms() - p->start_ms,
		.cpu_ms = (cpu_ns(p) - p->start_cpu_ns) / 1000000,
		.pages = p->pages,
	};
	bool on = knob(p, KNOB_ADVISOR_MODE) == KSM_ADVISOR_SCAN_TIME;

	if (on && !p->advising)
		memset(&p->advisor, 0, sizeof(p->advisor));
	p->advising = on;
	if (on)
		atomic_store_explicit(&p->d->knobs.v[KNOB_PAGES_TO_SCAN],
				      advisor_pages_to_scan(&p->advisor, &in, &p->d->knobs),
				      memory_order_relaxed);
}

/* Where windows cannot be had, frames are to be moved together; where contents meet, merged. */
static void want_mover(const struct scan_pass *p, struct domain **v, unsigned int nr)
{
	bool wants = false;

	for (unsigned int i = 0; i < nr; i++)
		wants |= engine_wants_twins(v[i]->engine);
	for (int nid = 0; nid < p->d->topology->nr_nodes; nid++)
		for (unsigned int i = 0; i < nr && !wants; i++)
			wants = engine_wants_compaction(v[i]->engine, nid);
	if (wants)
		mover_want(p->d->mover);
}

/*
 * Merging rests: it is known which pages stay together. Not before it has rested for a while:
 * where passes follow each other at once a few calm ones say little, the clients' agents may not
 * have done with what they were asked for last, and what moves frames takes their time.
 */
static void want_gathering(const struct scan_pass *p, struct domain **v, unsigned int nr)
{
	bool wants = false;

	for (int nid = 0; nid < p->d->topology->nr_nodes; nid++)
		for (unsigned int i = 0; i < nr && !wants; i++)
			wants = engine_wants_gathering(v[i]->engine, nid);
	if (wants)
		mover_rest(p->d->mover);
}

/* How long to pause at least after a pass that found this. */
static uint64_t rest(struct scan_pass *p, const struct findings *f)
{
	uint64_t cpu = cpu_ns(p), agents = p->d->agents_cpu_ns;
	/* Domains that end take their sums along. */
	uint64_t merged = f->pages_merged - u64_min(p->merged, f->pages_merged);
	uint64_t fresh = f->rmap_items - u64_min(p->tracked, f->rmap_items);
	struct rest_pass pass = {
		.cpu_us = (cpu - p->rested_cpu_ns) / 1000,
		.agents_us = (agents - p->agents_cpu_ns) / 1000,
		.looked = f->rmap_items,
		.yielded = merged + fresh + f->nr_orders - u64_min(p->given_up, f->nr_orders),
		.percent = knob(p, KNOB_MAX_CPU_PERCENT),
	};

	p->rested_cpu_ns = cpu;
	p->agents_cpu_ns = agents;
	p->merged = f->pages_merged;
	p->tracked = f->rmap_items;
	return rest_after(&p->rest, &pass, &p->least_ms);
}

/* Returns how long to sleep now. */
static uint64_t pass_end(struct scan_pass *p, struct domain **v, unsigned int nr)
{
	uint64_t pause = knob(p, KNOB_SLEEP_MILLISECS), max = knob(p, KNOB_MAX_IDLE_MILLISECS);
	struct findings f = find(v, nr);
	uint64_t lean = rest(p, &f), orders;

	USDT(ksm_stop_scan, (int)pass_number(p), (uint32_t)f.rmap_items);
	orders = owe_pass(p, f.nr_orders);
	p->under_way = false;
	if (orders || f.pages_scanned != p->scanned)
		p->busy_ms = clock_ms();
	advise(p);
	want_mover(p, v, nr);
	if (orders) {
		p->pause_ms = 0;
		polls_begin(&p->polls, clock_ms(), orders, (cpu_ns(p) - p->start_cpu_ns) / 1000000);
		p->rest_ms = p->polls.begun_ms + u64_max(pause, lean);
		return ANSWERS_MS;
	}
	if (f.pages_scanned != p->scanned) {
		p->pause_ms = 0;
		return u64_max(pause, lean);
	}
	crew_rest(p->crew);
	scan_place_rest(&p->place);
	if (p->pause_ms && clock_ms() - p->busy_ms >= CALM_MS)
		want_gathering(p, v, nr);
	/* 1: sleep_millisecs may be 0, which does not double. */
	p->pause_ms = u64_min(p->pause_ms ? p->pause_ms * 2 : u64_max(pause, 1), max);
	p->pause_ms = u64_max(p->pause_ms, lean);
	return u64_max(p->pause_ms, pause);
}

static bool may_scan(const struct scan_pass *p)
{
	return knob(p, KNOB_RUN) == KSM_RUN_MERGE && !*p->stop;
}

/* ---- stints ---- */

static void stint_begin(struct scan_pass *p)
{
	uint64_t now = clock_thread_cpu_ns();
	uint64_t ns = rest_stint(&p->rest, now - p->thread_ns, scan_pass_orders(p));

	p->stint_ns = ns ? now + ns : 0;
}

/* For the scan thread alone: the others work where there is much to do, without stints. */
static bool stint_over(const struct scan_pass *p)
{
	return p->stint_ns && clock_thread_cpu_ns() >= p->stint_ns;
}

/* ---- batches ---- */

/* One domain's share of a batch, worked off by one thread or several. */
struct share {
	struct scan_pass *p;
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
	int64_t slice, left, most = sh->p->stint_ns ? STINT_SLICE : SLICE_PAGES;
	enum engine_scan r = ENGINE_SCAN_BUDGET;

	engine_set_worker_nid(sh->d->engine, worker, scan_place_bind(&sh->p->place, worker));
	/* Once one worker has ended the pass another would begin the next. */
	while (r == ENGINE_SCAN_BUDGET && !sh->d->pass_done && may_scan(sh->p) &&
	       (slice = take(sh, most)) > 0) {
		left = slice;
		r = engine_scan(sh->d->engine, worker, &left);
		/* An engine that makes no progress must not hold the worker. */
		sh->budget += left < slice ? left : left - 1;
		engine_flush(sh->d->engine, ENGINE_FLUSH_RIPE);
		if (stint_over(sh->p))
			break; /* here: each stint gets on, however slow the machine is */
	}
	if (r == ENGINE_SCAN_PASS)
		sh->d->pass_done = true;
}

static unsigned int helpers(const struct scan_pass *p, const struct domain *d)
{
	unsigned int want = knob(p, KNOB_SCAN_THREADS), clients = d->nr_clients;

	if (!want)
		want = p->nr_cpus;
	want = want < clients ? want : clients;
	return want ? want - 1 : 0;
}

/* This thread works alone at first, and calls helpers when that was not enough. */
static void scan_domain(struct scan_pass *p, struct domain *d, int64_t *budget)
{
	int64_t alone = *budget < ALONE_PAGES ? *budget : ALONE_PAGES;
	struct share sh = { .p = p, .d = d, .budget = alone };

	work(&sh, 0);
	if (!d->pass_done && *budget > alone && !p->stint_ns) {
		sh.budget += *budget - alone;
		crew_run(p->crew, helpers(p, d), work, &sh);
	}
	p->pages += (uint64_t)(*budget - sh.budget);
	*budget = sh.budget;
}

/* Send what clients can take now. Returns whether another poll is worth it: polls.h. */
static bool poll_answers(struct scan_pass *p)
{
	unsigned int nr;
	struct domain **v = domain_table_snapshot(&p->d->domains, &nr);
	uint64_t orders = 0;

	for (unsigned int i = 0; i < nr; i++) {
		engine_flush(v[i]->engine, ENGINE_FLUSH_PASS);
		orders += engine_nr_orders(v[i]->engine);
	}
	domain_snapshot_free(v, nr);
	orders = count_passes(p, orders);
	return polls_next(&p->polls, clock_ms(), orders, knob(p, KNOB_MAX_IDLE_MILLISECS));
}

/*
 * Tell the engine the time. The lock is free between the parts of what follows from it. Random
 * bits are for the waits before merging; a pass at rest does without the system call.
 */
static void tick(const struct scan_pass *p, struct engine *e)
{
	uint64_t salt = 0, now = clock_ms();

	/* It cannot fail, once the kernel has random numbers; a guess of ours is the next best. */
	if (knob(p, KNOB_MERGE_DELAY_MILLISECS) &&
	    getrandom(&salt, sizeof(salt), 0) != sizeof(salt))
		salt = clock_thread_cpu_ns();
	while (engine_tick(e, now, salt))
		;
}

/* One batch. Returns how long to sleep after it. */
static uint64_t batch(struct scan_pass *p)
{
	int64_t most = knob(p, KNOB_PAGES_TO_SCAN);
	int64_t budget = p->left && p->left < most ? p->left : most;
	uint64_t pause = knob(p, KNOB_SLEEP_MILLISECS);
	bool hold_over = clock_ms() - p->flushed_ms >= HOLD_MS;
	bool held = shortage_holds(&p->d->shortage, &p->d->knobs, clock_ms());
	unsigned int nr, active = 0, done = 0;
	struct domain **v = domain_table_snapshot(&p->d->domains, &nr);
	bool wants = false;

	if (!p->under_way)
		pass_begin(p, v, nr);
	if (hold_over)
		p->flushed_ms = clock_ms();
	stint_begin(p);
	p->left = 0;
	for (unsigned int i = 0; i < nr; i++) {
		/* A domain whose clients have all gone has nothing to scan. */
		if (!v[i]->nr_clients)
			continue;
		active++;
		/* Each stint is one of a domain, or of few: all of them in each would cost more. */
		if (p->stint_ns && (v[i]->pass_done || stint_over(p))) {
			done += v[i]->pass_done;
			continue;
		}
		engine_hold(v[i]->engine, held);
		tick(p, v[i]->engine);
		scan_domain(p, v[i], &budget);
		engine_flush(v[i]->engine, v[i]->pass_done ? ENGINE_FLUSH_PASS :
					   hold_over       ? ENGINE_FLUSH_ALL :
							     ENGINE_FLUSH_RIPE);
		done += v[i]->pass_done;
		if (engine_nr_retired(v[i]->engine))
			bell_ring(&p->d->client_bell, CLIENTS_RETIRED);
		wants |= engine_wants_pageblock(v[i]->engine);
	}
	/* Those pages that come to the scan later still get windows. */
	if (wants)
		mover_want(p->d->mover);
	if (!active) {
		p->under_way = false;
		pause = CLOCK_NEVER;
	} else if (done == active) {
		pause = pass_end(p, v, nr);
	} else if (!knob(p, KNOB_PAGES_TO_SCAN)) {
		pause = CLOCK_NEVER; /* until a store rings the bell */
	} else if (stint_over(p) && budget > 0) {
		p->left = budget;
		pause = STINT_PAUSE_MS;
	}
	if (held && pause != CLOCK_NEVER)
		pause = u64_min(pause, SHORTAGE_LOOK_MS);
	domain_snapshot_free(v, nr);
	p->cpu_ns = cpu_ns(p);
	return pause;
}

/* What is left of the pause between two passes, after the polls for answers. */
static uint64_t rest_of_pause(const struct scan_pass *p)
{
	uint64_t now = clock_ms();

	return p->rest_ms > now ? p->rest_ms - now : 0;
}

uint64_t scan_pass_step(struct scan_pass *p)
{
	if (p->polls.left)
		return poll_answers(p) ? ANSWERS_MS : rest_of_pause(p);
	return batch(p);
}

void scan_pass_hasten(struct scan_pass *p)
{
	p->pause_ms = 0;
	polls_hasten(&p->polls);
}

void scan_pass_halt(struct scan_pass *p)
{
	unsigned int nr;
	struct domain **v = domain_table_snapshot(&p->d->domains, &nr);

	for (unsigned int i = 0; i < nr; i++)
		engine_cancel_orders(v[i]->engine);
	domain_snapshot_free(v, nr);
	count_passes(p, 0);
	p->polls.left = 0;
}

uint64_t scan_pass_orders(const struct scan_pass *p)
{
	return domain_table_orders(&p->d->domains);
}

void scan_pass_abandon(struct scan_pass *p)
{
	p->under_way = false;
	p->left = 0;
}

/* ---- life ---- */

static unsigned int count_cpus(void)
{
	cpu_set_t set;

	/* There are more CPUs than a cpu_set_t holds, so certainly more than workers. */
	if (sched_getaffinity(0, sizeof(set), &set))
		return ENGINE_WORKERS;
	return (unsigned int)CPU_COUNT(&set);
}

int scan_pass_init(struct scan_pass *p, struct daemon *d, const _Atomic bool *stop)
{
	*p = (struct scan_pass){ .d = d, .stop = stop, .nr_cpus = count_cpus() };
	scan_place_init(&p->place, d->topology);
	p->crew = crew_new(ENGINE_WORKERS - 1);
	return p->crew ? 0 : -errno;
}

void scan_pass_deinit(struct scan_pass *p)
{
	crew_free(p->crew);
}
