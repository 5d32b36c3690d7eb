/* SPDX-License-Identifier: MIT */
/*
 * test_pool_threads.c - several threads do random things to one pool at once, millions of them;
 * whenever all rest, its counts are compared with a plain recount of what each says it has.
 *
 * Threads allocate, free, retire, use caches, isolate and undo, take contiguous ranges, have
 * others' frames moved for these (compaction), take pageblocks out of use and put them back. A
 * frame that is handed out must be nobody's: each has a holder, which moves with the contents. A
 * reader counts all the while. It must not wait for long, and its counts add up at every moment.
 *
 * Seen to fail: without cache_purge() in isolate_blocks() (a recount); without the zone's lock in
 * pool_counts() (the reader's sums).
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "pool/range.h"
#include "fake.h"
#include "suites.h"

#define B PAGEBLOCK_FRAMES

enum { ZONES = 2, ZONE_FRAMES = 12 * PAGEBLOCK_FRAMES, FRAMES = ZONES * ZONE_FRAMES };
enum { THREADS = 4, ROUNDS = 20, OPS = 40000, SLOTS = 2000, HELD = 3, NOBODY = 0 };
#define READER_MS 500u /* ten times what is promised; a machine may be busy */

/* Frames that a thread has: a run, from `first` on. */
struct slot {
	uint32_t first, nr; /* nr 0: empty */
	bool retired;
};
struct range {
	uint32_t first, end; /* empty: none */
};

struct world;
struct worker {
	struct world *w;
	uint32_t number;
	uint64_t rng;
	pthread_mutex_t lock; /* covers slot[], which a mover changes, too */
	struct slot slot[SLOTS];
	struct range isolated[HELD], offline[HELD];
	uint64_t done[8];
};

struct world {
	struct pool p;
	pthread_barrier_t rest;
	struct worker worker[THREADS];
	uint32_t holder[FRAMES];           /* atomic: NOBODY, or number * SLOTS + slot + 1 */
	bool stop;                         /* atomic */
	uint64_t moved;                    /* atomic */
	uint64_t wrong, slowest_ns, reads; /* the reader's */
};

static uint32_t below(struct worker *t, uint32_t n)
{
	return (uint32_t)(fake_rand(&t->rng) % n);
}

/* Frames that were handed out are the caller's now, and were nobody's. */
static void claim(struct worker *t, uint32_t s, uint32_t first, uint32_t nr)
{
	uint32_t me = t->number * SLOTS + s + 1;

	pthread_mutex_lock(&t->lock);
	for (uint32_t f = first; f < first + nr; f++)
		must_msg(__atomic_exchange_n(&t->w->holder[f], me, __ATOMIC_ACQ_REL) == NOBODY,
			 "frame %u is somebody's", f);
	t->slot[s] = (struct slot){ first, nr, false };
	pthread_mutex_unlock(&t->lock);
}

/* They are the caller's alone: no mover finds them. */
static struct slot disclaim(struct worker *t, uint32_t s)
{
	struct slot had;

	pthread_mutex_lock(&t->lock);
	had = t->slot[s];
	t->slot[s].nr = 0;
	for (uint32_t f = had.first; f < had.first + had.nr; f++)
		__atomic_store_n(&t->w->holder[f], NOBODY, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&t->lock);
	return had;
}

/* A run moves whole. What is on its way to or from its holder is asked for again. */
static int move(void *ctx, uint32_t from, uint32_t nr, uint32_t to, struct pool_culprit *who)
{
	struct world *w = ctx;
	uint32_t holder = __atomic_load_n(&w->holder[from], __ATOMIC_ACQUIRE);
	struct worker *t;
	struct slot *s;
	int err = -EAGAIN;

	who->pid = 4711;
	if (holder == NOBODY)
		return err;
	t = &w->worker[(holder - 1) / SLOTS];
	s = &t->slot[(holder - 1) % SLOTS];
	pthread_mutex_lock(&t->lock);
	if (s->nr == nr && s->first == from && !s->retired) {
		for (uint32_t f = 0; f < nr; f++) {
			__atomic_store_n(&w->holder[from + f], NOBODY, __ATOMIC_RELEASE);
			must_msg(__atomic_exchange_n(&w->holder[to + f], holder,
						     __ATOMIC_ACQ_REL) == NOBODY,
				 "something is moved to frame %u, which is somebody's", to + f);
		}
		s->first = to;
		err = 0;
	}
	pthread_mutex_unlock(&t->lock);
	if (!err)
		__atomic_fetch_add(&w->moved, 1, __ATOMIC_RELAXED);
	return err;
}

static void wait_a_little(void *ctx)
{
	(void)ctx;
	usleep(50);
}

static uint64_t now_ms(void *ctx)
{
	(void)ctx;
	return clock_ms();
}

static const struct pool_ops ops = { .move = move, .pause = wait_a_little, .now_ms = now_ms };

/* ---- what a thread does ---- */

static void take(struct worker *t, uint32_t s)
{
	struct pool *p = &t->w->p;
	int nid = (int)below(t, ZONES);
	unsigned int order = below(t, 10) ? 0 : 1 + below(t, 5);
	enum pool_type type = below(t, 200) ? POOL_MOVABLE : POOL_UNMOVABLE;
	uint32_t f;

	if (order || type == POOL_UNMOVABLE)
		pool_alloc_run(p, nid, type, order, &f);
	else
		f = pool_alloc(p, t->number, nid, below(t, 4) ? POOL_NONE : below(t, FRAMES),
			       POOL_NONE);
	if (f == POOL_NONE)
		return;
	claim(t, s, f, 1u << order);
	t->done[0]++;
}

static void give(struct worker *t, uint32_t s)
{
	struct slot had = disclaim(t, s);

	pool_free(&t->w->p, t->number, had.first, had.nr, below(t, 2));
}

static void retire(struct worker *t, uint32_t s)
{
	struct slot *had = &t->slot[s];

	/* Under the lock, so that no mover is halfway. */
	pthread_mutex_lock(&t->lock);
	if (had->nr == 1 && !had->retired) {
		pool_retire(&t->w->p, had->first);
		had->retired = true;
		t->done[1]++;
	}
	pthread_mutex_unlock(&t->lock);
}

/* Ranges in a zone, seldom longer than two pageblocks. */
static struct range any_range(struct worker *t)
{
	uint32_t first = below(t, FRAMES), end = first + 1 + below(t, 2 * B);
	uint32_t zone_end = (first / ZONE_FRAMES + 1) * ZONE_FRAMES;

	return (struct range){ first, end < zone_end ? end : zone_end };
}

static void isolate(struct worker *t)
{
	struct range *r = &t->isolated[below(t, HELD)], want = any_range(t);
	struct pool_culprit who;

	if (r->end) {
		must(!range_undo_isolate(&t->w->p, r->first, r->end));
		r->end = 0;
		t->done[2]++;
	} else if (!range_isolate(&t->w->p, want.first, want.end, &who)) {
		*r = want;
	}
}

static void offline(struct worker *t)
{
	struct range *r = &t->offline[below(t, HELD)];
	struct range_job job = { .timeout_ms = 2, .anywhere = below(t, 2) };
	uint32_t block = below(t, FRAMES / B) * B;

	if (r->end) {
		must(!range_online(&t->w->p, r->first, r->end));
		r->end = 0;
		t->done[3]++;
	} else if (!range_offline(&t->w->p, block, block + B, &job)) {
		*r = (struct range){ block, block + B };
	}
}

/* Frames side by side, which others' contents have made way for. */
static void contiguous(struct worker *t, uint32_t s)
{
	struct range_job job = { .timeout_ms = 2, .anywhere = below(t, 2) };
	struct range r = any_range(t);
	uint32_t zone = r.first / ZONE_FRAMES * ZONE_FRAMES;

	if (below(t, 2)) {
		if (range_alloc_any(&t->w->p, zone, zone + ZONE_FRAMES, B / 2, B / 2, &job,
				    &r.first))
			return;
		r.end = r.first + B / 2;
	} else if (range_alloc(&t->w->p, r.first, r.end, &job)) {
		return;
	}
	/* They are so many frames, not a run; none stays for longer than it is looked at. */
	claim(t, s, r.first, r.end - r.first);
	give(t, s);
	t->done[4]++;
}

static void step(struct worker *t, bool fill)
{
	uint32_t s = below(t, SLOTS), what = below(t, 1000);

	if (what < 940) {
		/* The pool fills and empties in turn. */
		if (!t->slot[s].nr)
			take(t, s);
		else if (!fill || what < 400)
			give(t, s);
	} else if (what < 975) {
		retire(t, s);
	} else if (what < 985) {
		pool_drain(&t->w->p, t->number);
	} else if (what < 992) {
		isolate(t);
	} else if (what < 996) {
		offline(t);
	} else if (!t->slot[s].nr) {
		contiguous(t, s);
	}
}

/* ---- a rest ---- */

static void recount(struct world *w)
{
	uint64_t used[ZONES] = { 0 }, retired[ZONES] = { 0 }, offline_blocks[ZONES] = { 0 };
	bool has[FRAMES] = { false };

	must(!pool_check(&w->p));
	for (int i = 0; i < THREADS; i++) {
		const struct worker *t = &w->worker[i];

		for (uint32_t s = 0; s < SLOTS; s++) {
			const struct slot *v = &t->slot[s];

			for (uint32_t f = v->first; f < v->first + v->nr; f++) {
				must(!has[f] && pool_is_used(&w->p, f));
				has[f] = true;
			}
			if (v->nr)
				(v->retired ? retired : used)[v->first / ZONE_FRAMES] += v->nr;
		}
		for (int k = 0; k < HELD; k++)
			if (t->offline[k].end)
				offline_blocks[t->offline[k].first / ZONE_FRAMES]++;
	}
	for (uint32_t f = 0; f < FRAMES; f++)
		must(has[f] == pool_is_used(&w->p, f));
	for (int nid = 0; nid < ZONES; nid++) {
		struct pool_counts c;

		pool_counts(&w->p, nid, &c);
		must_msg(c.used == used[nid] && c.retired == retired[nid] &&
				 c.offline == offline_blocks[nid],
			 "node %d: %llu used and %llu retired, should be %llu and %llu", nid,
			 (unsigned long long)c.used, (unsigned long long)c.retired,
			 (unsigned long long)used[nid], (unsigned long long)retired[nid]);
	}
}

static void *worker_main(void *arg)
{
	struct worker *t = arg;

	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < OPS; i++)
			step(t, round % 2);
		pthread_barrier_wait(&t->w->rest);
		if (!t->number)
			recount(t->w);
		pthread_barrier_wait(&t->w->rest);
	}
	for (uint32_t s = 0; s < SLOTS; s++)
		if (t->slot[s].nr)
			give(t, s);
	for (int k = 0; k < HELD; k++) {
		if (t->isolated[k].end)
			range_undo_isolate(&t->w->p, t->isolated[k].first, t->isolated[k].end);
		if (t->offline[k].end)
			range_online(&t->w->p, t->offline[k].first, t->offline[k].end);
	}
	pool_drain(&t->w->p, t->number);
	return NULL;
}

static void *reader_main(void *arg)
{
	struct world *w = arg;

	for (; !__atomic_load_n(&w->stop, __ATOMIC_RELAXED); w->reads++) {
		uint64_t begun = clock_ns(), took;
		struct pool_counts c;

		pool_counts(&w->p, (int)(w->reads % ZONES), &c);
		took = clock_ns() - begun;
		w->slowest_ns = took > w->slowest_ns ? took : w->slowest_ns;
		w->wrong += c.free + c.cached + c.isolated + c.used + c.retired + c.guard +
				    c.window + c.absent !=
			    c.span;
		usleep(100);
	}
	return NULL;
}

START_TEST(counts_are_exact)
{
	struct world *w = calloc(1, sizeof(*w));
	struct pool_config cfg = { .ops = &ops,
				   .ctx = w,
				   .nr_zones = ZONES,
				   .zone_frames = ZONE_FRAMES,
				   .max_frames = FRAMES - 700,
				   .nr_caches = THREADS };
	pthread_t thread[THREADS], reader;
	uint64_t seed = fake_seed();

	must(!pool_init(&w->p, &cfg));
	pthread_barrier_init(&w->rest, NULL, THREADS);
	for (uint32_t i = 0; i < THREADS; i++) {
		w->worker[i].w = w;
		w->worker[i].number = i;
		w->worker[i].rng = seed + i;
		pthread_mutex_init(&w->worker[i].lock, NULL);
	}
	must(!pthread_create(&reader, NULL, reader_main, w));
	for (int i = 0; i < THREADS; i++)
		must(!pthread_create(&thread[i], NULL, worker_main, &w->worker[i]));
	for (int i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	__atomic_store_n(&w->stop, true, __ATOMIC_RELAXED);
	pthread_join(reader, NULL);
	for (int k = 0; k < 5; k++) {
		uint64_t nr = 0;

		for (int i = 0; i < THREADS; i++)
			nr += w->worker[i].done[k];
		must_msg(nr > 0, "operation %d has never succeeded", k);
	}
	must(w->moved > 0);
	must(w->reads > 0);
	must(w->wrong == 0);
	must_msg(w->slowest_ns < READER_MS * 1000000ull, "a reader waited for %llu ms",
		 (unsigned long long)w->slowest_ns / 1000000);
	for (int nid = 0; nid < ZONES; nid++) {
		struct pool_counts c;

		pool_counts(&w->p, nid, &c);
		must(c.free + c.absent == c.span);
	}
	must(!pool_check(&w->p));
	pool_deinit(&w->p);
	free(w);
}
END_TEST

Suite *suite_pool_threads(void)
{
	Suite *s = suite_create("pool threads");
	TCase *tc = tcase_create("threads");

	tcase_set_timeout(tc, 300);
	tcase_add_test(tc, counts_are_exact);
	suite_add_tcase(s, tc);
	return s;
}
