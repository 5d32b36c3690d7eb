/* SPDX-License-Identifier: MIT */
/*
 * test_range.c - isolation, contiguous ranges, offline; and what went wrong with these in the
 * kernel, each interleaving driven by a step in between.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pool/contig.h"
#include "pool/index.h"
#include "pool/range.h"
#include "fake.h"
#include "suites.h"

#define B PAGEBLOCK_FRAMES

/* A pool whose frames can be moved, a clock that moves on with each pause, and a step. */
struct world {
	struct pool p;
	uint64_t now;
	int refuse;            /* what the mover answers instead of moving; 0: it moves */
	uint32_t refuse_frame; /* only for this frame; POOL_NONE: for all */
	uint32_t moves;
	enum pool_moment at; /* when to step in, once; or at every moment */
	bool always;
	void (*step)(struct world *w, uint32_t frame);
	struct range_job *job;
	uint32_t got, nr_got;
};

static int move(void *ctx, uint32_t from, uint32_t nr, uint32_t to, struct pool_culprit *who)
{
	struct world *w = ctx;

	if (w->refuse && (w->refuse_frame == POOL_NONE || w->refuse_frame == from)) {
		who->pid = 4711;
		return w->refuse;
	}
	w->moves++;
	for (uint32_t i = 0; i < nr; i++)
		pool_set_word(&w->p, to + i, pool_word(&w->p, from + i));
	return 0;
}

static void wait_a_little(void *ctx)
{
	struct world *w = ctx;

	w->now += 10;
}

static uint64_t now_ms(void *ctx)
{
	const struct world *w = ctx;

	return w->now;
}

static void moment(void *ctx, enum pool_moment at, uint32_t frame)
{
	struct world *w = ctx;
	void (*step)(struct world *, uint32_t) = w->step;

	if (!step || (at != w->at && !w->always))
		return;
	w->step = NULL;
	step(w, frame);
	if (w->always)
		w->step = step;
}

static const struct pool_ops ops = { .move = move,
				     .pause = wait_a_little,
				     .now_ms = now_ms,
				     .moment = moment };

static void make(struct world *w, int zones, uint32_t frames, bool guard)
{
	struct pool_config cfg = { .ops = &ops,
				   .ctx = w,
				   .nr_zones = zones,
				   .zone_frames = frames,
				   .nr_caches = 2,
				   .keep_empty = true,
				   .guard = guard };

	memset(w, 0, sizeof(*w));
	w->refuse_frame = POOL_NONE;
	ck_assert_int_eq(pool_init(&w->p, &cfg), 0);
}

/* Have every pageblock of zone 0 exist, all frames free. */
static void fill_out(struct world *w)
{
	uint32_t nr = w->p.zone_frames;

	for (uint32_t f = 0; f < nr; f++)
		must(pool_alloc(&w->p, POOL_NO_CACHE, 0, f, POOL_NONE) == f);
	pool_free(&w->p, POOL_NO_CACHE, 0, nr, false);
}

static uint32_t take(struct world *w, uint32_t frame)
{
	uint32_t f = pool_alloc(&w->p, POOL_NO_CACHE, pool_nid(&w->p, frame), frame, POOL_NONE);

	ck_assert_uint_eq(f, frame);
	return f;
}

static uint32_t take_run(struct world *w, enum pool_type type, unsigned int order)
{
	uint32_t f;

	ck_assert_int_eq(pool_alloc_run(&w->p, 0, type, order, &f), 0);
	return f;
}

static void give(struct world *w, uint32_t frame, uint32_t nr)
{
	pool_free(&w->p, POOL_NO_CACHE, frame, nr, true);
}

static struct pool_counts counts(struct world *w, int nid)
{
	struct pool_counts c;

	ck_assert_int_eq(pool_check(&w->p), 0);
	pool_counts(&w->p, nid, &c);
	return c;
}

/* --- bad input --- */

START_TEST(bad_ranges)
{
	static const struct {
		uint32_t start, end;
		const char *why;
	} bad[] = {
		{ 10, 10, "no frames" },
		{ 11, 10, "it ends before it starts" },
		{ UINT32_MAX, 0, "it ends before it starts" },
		{ 7 * B, 8 * B + 1, "beyond the last frame" },
		{ 0, UINT32_MAX, "beyond the last frame" },
		{ 8 * B, 9 * B, "beyond the last frame" },
		{ 3 * B, 5 * B, "in two zones" },
	};
	struct range_job job = { 0 };
	struct pool_culprit who;
	struct world w;
	uint32_t f;

	make(&w, 2, 4 * B, false);
	take(&w, B + 7);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint32_t start = bad[i].start, end = bad[i].end;

		ck_assert_int_eq(range_isolate(&w.p, start, end, &who), -EINVAL);
		ck_assert_str_eq(who.why, bad[i].why);
		ck_assert_int_eq(range_isolate_windows(&w.p, start, end, &who), -EINVAL);
		ck_assert_str_eq(who.why, bad[i].why);
		ck_assert_int_eq(range_undo_isolate(&w.p, start, end), -EINVAL);
		ck_assert_int_eq(range_alloc(&w.p, start, end, &job), -EINVAL);
		ck_assert_str_eq(job.who.why, bad[i].why);
		ck_assert_int_eq(range_alloc_any(&w.p, start, end, 1, 1, &job, &f), -EINVAL);
		ck_assert_str_eq(job.who.why, bad[i].why);
		ck_assert_uint_eq(f, POOL_NONE);
		ck_assert_int_eq(range_offline(&w.p, start, end, &job), -EINVAL);
		ck_assert_str_eq(job.who.why, bad[i].why);
		ck_assert_int_eq(range_take_out(&w.p, start, end, &who), -EINVAL);
		ck_assert_str_eq(who.why, bad[i].why);
		ck_assert_int_eq(range_online(&w.p, start, end), -EINVAL);
	}
	ck_assert_int_eq(range_offline(&w.p, 1, B, &job), -EINVAL);
	ck_assert_str_eq(job.who.why, "part of a pageblock");
	ck_assert_int_eq(range_offline(&w.p, 0, B - 1, &job), -EINVAL);
	ck_assert_int_eq(range_take_out(&w.p, 0, B - 1, &who), -EINVAL);
	ck_assert_int_eq(range_online(&w.p, 0, B + 1), -EINVAL);
	ck_assert_int_eq(range_alloc_any(&w.p, 0, 4 * B, 8, 3, &job, &f), -EINVAL);
	ck_assert_str_eq(job.who.why, "no alignment");
	ck_assert_int_eq(range_alloc_any(&w.p, 0, B, B + 1, 1, &job, &f), -EINVAL);
	ck_assert_str_eq(job.who.why, "more frames than the range has");
	/* One that overlaps an operation under way. */
	ck_assert_int_eq(range_isolate(&w.p, 2 * B, 3 * B, &who), 0);
	ck_assert_int_eq(range_isolate(&w.p, B, 2 * B + 1, &who), -EBUSY);
	ck_assert_str_eq(who.why, "isolated by another");
	ck_assert_uint_eq(who.frame, 2 * B);
	ck_assert_int_eq(range_alloc(&w.p, 2 * B + 3, 2 * B + 4, &job), -EBUSY);
	ck_assert_int_eq(range_offline(&w.p, B, 4 * B, &job), -EBUSY);
	ck_assert_str_eq(job.who.why, "isolated by another");
	ck_assert_int_eq(range_undo_isolate(&w.p, 2 * B, 3 * B), 0);
	/* Nothing changed. */
	ck_assert_uint_eq(counts(&w, 0).used, 1);
	ck_assert_uint_eq(counts(&w, 0).absent, 3 * B);
	ck_assert_uint_eq(counts(&w, 0).isolated, 0);
	ck_assert_uint_eq(counts(&w, 1).absent, 4 * B);
	pool_deinit(&w.p);
}
END_TEST

/* --- isolation --- */

/* The historic count: how many frames are linked is not how many were moved. */
START_TEST(isolating_counts_what_is_free)
{
	struct pool_culprit who;
	struct world w;

	make(&w, 1, 4 * B, false);
	fill_out(&w);
	for (uint32_t f = B; f < 2 * B; f += 3)
		take(&w, f);
	ck_assert_int_eq(range_isolate(&w.p, B + 5, B + 6, &who), 0);
	ck_assert_uint_eq(counts(&w, 0).isolated, B - (B + 2) / 3);
	ck_assert_uint_eq(counts(&w, 0).free, 3 * B);
	/* Nobody gets its frames, by wish or otherwise. */
	must(!pool_is_free(&w.p, 0, B + 1));
	ck_assert_uint_ne(pool_alloc(&w.p, 0, 0, B + 1, B + 2) / B, 1);
	/* One that comes back stays isolated. */
	give(&w, B, 1);
	ck_assert_uint_eq(counts(&w, 0).isolated, B - (B + 2) / 3 + 1);
	ck_assert_int_eq(range_isolate(&w.p, 0, 4 * B, &who), -EBUSY);
	ck_assert_uint_eq(who.frame, B);
	ck_assert_int_eq(range_undo_isolate(&w.p, B, B + 1), 0);
	ck_assert_uint_eq(counts(&w, 0).isolated, 0);
	ck_assert_uint_eq(pool_alloc(&w.p, POOL_NO_CACHE, 0, B + 1, POOL_NONE), B + 1);
	pool_deinit(&w.p);
}
END_TEST

/* The largest run is larger than a pageblock: half of it is isolated. */
START_TEST(largest_run_over_the_edge)
{
	struct pool_culprit who;
	uint64_t nr[POOL_ORDERS];
	struct world w;

	make(&w, 1, 4 * B, false);
	fill_out(&w);
	index_runs(&w.p, 0, POOL_TYPES, nr);
	ck_assert_uint_eq(nr[POOL_MAX_ORDER], 2);
	ck_assert_int_eq(range_isolate(&w.p, B, 2 * B, &who), 0);
	index_runs(&w.p, 0, POOL_TYPES, nr);
	ck_assert_uint_eq(nr[POOL_MAX_ORDER], 1);
	ck_assert_uint_eq(nr[PAGEBLOCK_ORDER], 1);
	ck_assert_uint_eq(counts(&w, 0).isolated, B);
	/* The historic merge: the last frame of a neighbour comes back, and both are empty. */
	take(&w, 5);
	give(&w, 5, 1);
	index_runs(&w.p, 0, POOL_TYPES, nr);
	ck_assert_uint_eq(nr[POOL_MAX_ORDER], 1);
	ck_assert_uint_eq(counts(&w, 0).isolated, B);
	ck_assert_int_eq(range_undo_isolate(&w.p, B, 2 * B), 0);
	index_runs(&w.p, 0, POOL_TYPES, nr);
	ck_assert_uint_eq(nr[POOL_MAX_ORDER], 2); /* one again */
	pool_deinit(&w.p);
}
END_TEST

/* Pageblocks of two types are no pair, and isolation brings the types back. */
START_TEST(types_survive_isolation)
{
	struct pool_culprit who;
	uint64_t nr[POOL_ORDERS];
	struct pool_counts c;
	struct world w;

	make(&w, 1, 4 * B, false);
	ck_assert_int_eq(pool_reserve(&w.p, B, 1, &who), 0);
	fill_out(&w);
	index_runs(&w.p, 0, POOL_TYPES, nr);
	ck_assert_uint_eq(nr[POOL_MAX_ORDER], 1);
	take(&w, 3 * B);
	ck_assert_int_eq(range_isolate(&w.p, 0, 4 * B, &who), 0);
	index_runs(&w.p, 0, POOL_TYPES, nr);
	ck_assert_uint_eq(nr[POOL_MAX_ORDER] + nr[PAGEBLOCK_ORDER], 0);
	ck_assert_int_eq(range_undo_isolate(&w.p, 0, 4 * B), 0);
	c = counts(&w, 0);
	ck_assert_uint_eq(c.free_of[POOL_RESERVE], B);
	ck_assert_uint_eq(c.free_of[POOL_MOVABLE], 3 * B - 1);
	pool_deinit(&w.p);
}
END_TEST

START_TEST(first_and_last_and_gone)
{
	struct range_job job = { 0 };
	struct pool_culprit who;
	struct world w;

	make(&w, 2, 4 * B + 100, false); /* the last is short */
	ck_assert_int_eq(range_isolate(&w.p, 4 * B + 99, 4 * B + 100, &who), 0);
	ck_assert_int_eq(range_isolate(&w.p, 0, 1, &who), 0);
	ck_assert_uint_eq(counts(&w, 0).absent, 4 * B + 100);
	must(!pool_is_free(&w.p, 0, 0)); /* absent, and must not come to exist */
	ck_assert_uint_eq(pool_alloc(&w.p, 0, 0, 0, 4 * B + 99) / B, 1);
	ck_assert_int_eq(range_undo_isolate(&w.p, 0, 4 * B + 100), 0);
	ck_assert_uint_eq(pool_alloc(&w.p, 0, 0, 4 * B + 99, POOL_NONE), 4 * B + 99);
	/* Neighbours that are offline. */
	ck_assert_int_eq(range_offline(&w.p, 2 * B, 3 * B, &job), 0);
	ck_assert_int_eq(range_isolate(&w.p, 3 * B, 3 * B + 1, &who), 0);
	ck_assert_int_eq(range_undo_isolate(&w.p, 3 * B, 3 * B + 1), 0);
	ck_assert_int_eq(range_isolate(&w.p, 3 * B - 1, 3 * B + 1, &who), -EBUSY);
	ck_assert_uint_eq(who.frame, 2 * B);
	take(&w, 3 * B);
	give(&w, 3 * B, 1); /* its buddy is not there */
	counts(&w, 0);
	pool_deinit(&w.p);
}
END_TEST

/* Two ranges that share a pageblock: one of them has it. Disjoint ones do not mind each other. */
START_TEST(two_ranges)
{
	struct pool_culprit who;
	struct world w;

	make(&w, 1, 8 * B, false);
	fill_out(&w);
	ck_assert_int_eq(range_isolate(&w.p, 0, B + 10, &who), 0);
	ck_assert_int_eq(range_isolate(&w.p, B + 10, 3 * B, &who), -EBUSY);
	ck_assert_uint_eq(counts(&w, 0).isolated, 2 * B);
	ck_assert_int_eq(range_isolate(&w.p, 2 * B, 3 * B, &who), 0);
	ck_assert_int_eq(range_undo_isolate(&w.p, 0, B + 10), 0);
	ck_assert_uint_eq(counts(&w, 0).isolated, B);
	ck_assert_int_eq(range_undo_isolate(&w.p, 0, 8 * B), 0);
	ck_assert_uint_eq(counts(&w, 0).free, 8 * B);
	pool_deinit(&w.p);
}
END_TEST

START_TEST(what_cannot_move_is_named)
{
	struct pool_culprit who;
	struct range_job job = { 0 };
	struct world w;
	uint32_t f, win;

	make(&w, 1, 4 * B, false);
	f = take_run(&w, POOL_UNMOVABLE, 2);
	ck_assert_int_eq(range_alloc(&w.p, f + 1, f + 2, &job), -EBUSY);
	ck_assert_uint_eq(job.who.frame, f + 1);
	ck_assert_str_eq(job.who.why, "cannot move");
	/* Only frames within the range can make it fail. */
	ck_assert_int_eq(range_alloc(&w.p, f + 4, f + 40, &job), 0);
	win = pool_window_reserve(&w.p, 0, POOL_NONE, 0);
	ck_assert_int_eq(range_isolate(&w.p, win, win + 1, &who), -EBUSY);
	ck_assert_str_eq(who.why, "a window");
	counts(&w, 0);
	pool_deinit(&w.p);
}
END_TEST

/*
 * Frames of a large folio that have come back are held until the last has. Meanwhile nobody
 * isolates them: what isolation would wait for may take for ever, so the folio is named at once.
 */
START_TEST(folio_in_use)
{
	struct pool_culprit who;
	struct world w;
	uint32_t f;

	make(&w, 1, 4 * B, false);
	f = take_run(&w, POOL_MOVABLE, PAGEBLOCK_ORDER);
	ck_assert_int_eq(pool_set_large(&w.p, f), 0);
	ck_assert_int_eq(range_isolate(&w.p, f, f + B, &who), 0);
	ck_assert_int_eq(range_undo_isolate(&w.p, f, f + B), 0);
	pool_free(&w.p, POOL_NO_CACHE, f, B - 1, true);
	ck_assert_int_eq(range_isolate(&w.p, f + 7, f + 8, &who), -EBUSY);
	ck_assert_uint_eq(who.frame, f);
	ck_assert_str_eq(who.why, "a large folio in use");
	ck_assert_uint_eq(counts(&w, 0).isolated, 0);
	pool_free(&w.p, POOL_NO_CACHE, f + B - 1, 1, true);
	ck_assert_int_eq(range_isolate(&w.p, f, f + B, &who), 0);
	ck_assert_int_eq(range_undo_isolate(&w.p, f, f + B), 0);
	counts(&w, 0);
	pool_deinit(&w.p);
}
END_TEST

/* --- interleavings of the kernel's history --- */

static void isolate_now(struct world *w, uint32_t frame)
{
	struct pool_culprit who;

	ck_assert_int_eq(range_isolate(&w->p, frame, frame + 1, &who), 0);
}

static void undo_now(struct world *w, uint32_t frame)
{
	ck_assert_int_eq(range_undo_isolate(&w->p, frame, frame + 1), 0);
}

/* A thread frees into its cache while another isolates: it went to the wrong list. */
START_TEST(freed_to_a_cache_while_isolated)
{
	struct world w;

	make(&w, 1, 2 * B, false);
	fill_out(&w);
	take(&w, 7);
	w.at = POOL_AT_FREE;
	w.step = isolate_now;
	pool_free(&w.p, 0, 7, 1, true);
	ck_assert_uint_eq(counts(&w, 0).cached, 0);
	ck_assert_uint_eq(counts(&w, 0).isolated, B);
	ck_assert_uint_ne(pool_alloc(&w.p, 0, 0, 7, POOL_NONE) / B, 0);
	pool_deinit(&w.p);
}
END_TEST

/* It lay in a cache already: isolation takes it out. */
START_TEST(cached_frames_are_isolated)
{
	struct pool_culprit who;
	struct world w;

	make(&w, 1, 2 * B, false);
	fill_out(&w);
	take(&w, 7);
	pool_free(&w.p, 1, 7, 1, true);
	ck_assert_uint_eq(counts(&w, 0).cached, 1);
	ck_assert_int_eq(range_isolate(&w.p, 0, 1, &who), 0);
	ck_assert_uint_eq(counts(&w, 0).cached, 0);
	ck_assert_uint_eq(counts(&w, 0).isolated, B);
	ck_assert_uint_ge(pool_alloc(&w.p, 1, 0, 7, POOL_NONE), B);
	pool_deinit(&w.p);
}
END_TEST

/* It is freed after the isolation has ended, by a thread that began before. */
START_TEST(freed_when_isolation_has_ended)
{
	struct pool_culprit who;
	struct world w;

	make(&w, 1, 2 * B, false);
	fill_out(&w);
	take(&w, 7);
	ck_assert_int_eq(range_isolate(&w.p, 0, 1, &who), 0);
	w.at = POOL_AT_FREE;
	w.step = undo_now;
	pool_free(&w.p, POOL_NO_CACHE, 7, 1, true);
	ck_assert_uint_eq(counts(&w, 0).isolated, 0);
	ck_assert_uint_eq(counts(&w, 0).free, 2 * B);
	ck_assert_uint_eq(take(&w, 7), 7);
	pool_deinit(&w.p);
}
END_TEST

/* Guard frames joined into an isolated list were counted as free. */
START_TEST(guard_frames_while_isolated)
{
	struct range_job job = { 0 };
	struct pool_culprit who;
	struct world w;
	uint32_t f;

	make(&w, 1, 2 * B, true);
	ck_assert_int_eq(range_alloc(&w.p, 0, 2 * B, &job), 0); /* both exist */
	give(&w, 0, 2 * B);
	f = take_run(&w, POOL_MOVABLE, 4);
	ck_assert_int_eq(range_isolate(&w.p, f, f + 1, &who), 0);
	ck_assert_uint_eq(counts(&w, 0).isolated, B - 17);
	ck_assert_uint_eq(counts(&w, 0).guard, 1);
	give(&w, f, 16);
	ck_assert_uint_eq(counts(&w, 0).isolated, B);
	ck_assert_uint_eq(counts(&w, 0).free, B);
	ck_assert_uint_eq(counts(&w, 0).guard, 0);
	pool_deinit(&w.p);
}
END_TEST

/* --- contiguous ranges --- */

START_TEST(range_in_the_middle_of_runs)
{
	struct range_job job = { 0 };
	struct world w;
	uint32_t f;

	make(&w, 1, 8 * B, false);
	fill_out(&w);
	/* Of a free run. */
	ck_assert_int_eq(range_alloc(&w.p, 3 * B + 5, 4 * B + 7, &job), 0);
	ck_assert_uint_eq(counts(&w, 0).used, B + 2);
	must(!pool_is_used(&w.p, 3 * B + 4) && pool_is_used(&w.p, 3 * B + 5));
	must(pool_is_used(&w.p, 4 * B + 6) && !pool_is_used(&w.p, 4 * B + 7));
	give(&w, 3 * B + 5, B + 2);
	/* Of runs in use: they move whole, and their rests are free. */
	f = take_run(&w, POOL_MOVABLE, POOL_MAX_ORDER);
	pool_set_word(&w.p, f + B + 3, 99);
	ck_assert_int_eq(range_alloc(&w.p, f + B, f + B + 8, &job), 0);
	ck_assert_uint_eq(w.moves, 1);
	ck_assert_uint_eq(counts(&w, 0).used, 2 * B + 8);
	must(!pool_is_used(&w.p, f) && !pool_is_used(&w.p, f + B + 8));
	ck_assert_uint_eq(counts(&w, 0).isolated, 0);
	pool_deinit(&w.p);
}
END_TEST

/* The second half of a pair, whose first half has come back, is a run of its own. */
START_TEST(half_of_a_pair)
{
	struct range_job job = { 0 };
	struct world w;
	uint32_t f;

	make(&w, 1, 6 * B, false);
	f = take_run(&w, POOL_MOVABLE, POOL_MAX_ORDER);
	give(&w, f, B);
	ck_assert_int_eq(range_alloc(&w.p, f + B, f + B + 1, &job), 0);
	ck_assert_uint_eq(w.moves, 1);
	ck_assert_uint_eq(counts(&w, 0).used, B + 1);
	pool_deinit(&w.p);
}
END_TEST

START_TEST(contents_move_out_of_the_way)
{
	struct range_job job = { .timeout_ms = 100 };
	struct world w;
	uint32_t f, moved = 0;

	make(&w, 1, 4 * B, false);
	fill_out(&w);
	for (f = 0; f < 4 * B; f += 4)
		pool_set_word(&w.p, take(&w, f), f);
	ck_assert_int_eq(range_alloc_any(&w.p, 0, 4 * B, B + 3, 1, &job, &f), 0);
	ck_assert_uint_ne(f, POOL_NONE);
	ck_assert_uint_eq(counts(&w, 0).used, B + B + 3);
	/* Each word is there once, on a frame that is used. */
	for (f = 0; f < 4 * B; f++)
		moved += pool_word(&w.p, f) != POOL_NONE;
	ck_assert_uint_eq(moved, B);
	/* The mover cannot: nothing stays isolated, and the frame and the process are named. */
	w.refuse = -EPERM;
	ck_assert_int_eq(range_alloc(&w.p, 3 * B, 4 * B, &job), -EPERM);
	ck_assert_int_eq(job.who.pid, 4711);
	ck_assert_uint_eq(counts(&w, 0).isolated, 0);
	/* Not now: until the time is over, and not longer. */
	w.refuse = -EAGAIN;
	w.now = 1000;
	ck_assert_int_eq(range_alloc(&w.p, 3 * B, 4 * B, &job), -EBUSY);
	ck_assert_uint_eq(w.now, 1100);
	ck_assert_uint_eq(counts(&w, 0).used, B + B + 3);
	pool_deinit(&w.p);
}
END_TEST

START_TEST(no_room_elsewhere)
{
	struct range_job job = { 0 };
	struct world w;

	make(&w, 2, B, false);
	fill_out(&w);
	for (uint32_t f = 0; f < B; f++)
		take(&w, f);
	ck_assert_int_eq(range_offline(&w.p, 0, B, &job), -ENOMEM);
	ck_assert_str_eq(job.who.why, "no room elsewhere");
	ck_assert_uint_eq(counts(&w, 0).used, B);
	job.anywhere = true;
	ck_assert_int_eq(range_offline(&w.p, 0, B, &job), 0);
	ck_assert_uint_eq(counts(&w, 0).absent, B);
	ck_assert_uint_eq(counts(&w, 1).used, B);
	pool_deinit(&w.p);
}
END_TEST

/* --- offline --- */

/* The owner isolated the range, and empties it by itself. */
/* A run that is wanted is made where frames are many and scattered, and not one move more. */
START_TEST(run_made_on_demand)
{
	struct range_job job = { 0 };
	struct world w;
	uint32_t f, none;

	make(&w, 2, 4 * B, false);
	fill_out(&w);
	for (f = 0; f < 4 * B; f += 2)
		take(&w, f);
	/* More than the mover may be asked for: nothing moves. */
	ck_assert_int_eq(contig_alloc(&w.p, 0, PAGEBLOCK_ORDER, 1000, &job, &f), -ENOMEM);
	ck_assert_uint_eq(f, POOL_NONE);
	ck_assert(!job.stalled);
	ck_assert_str_eq(job.who.why, "too few frames are free");
	ck_assert_int_eq(contig_alloc(&w.p, 0, POOL_MAX_ORDER + 1, 500, &job, &f), -EINVAL);
	ck_assert_str_eq(job.who.why, "an order beyond the largest");
	ck_assert_int_eq(contig_alloc(&w.p, 2, 0, 500, &job, &f), -EINVAL);
	ck_assert_str_eq(job.who.why, "no such zone");
	ck_assert_uint_eq(f, POOL_NONE);
	ck_assert_uint_eq(w.moves, 0);
	ck_assert_int_eq(contig_alloc(&w.p, 0, PAGEBLOCK_ORDER, 500, &job, &f), 0);
	ck_assert_uint_eq(f % B, 0);
	ck_assert(job.stalled);
	ck_assert_uint_eq(w.moves, B / 2);
	ck_assert_uint_eq(counts(&w, 0).used, 3 * B);
	give(&w, f, B);
	/* One is there: nothing is moved for it. */
	ck_assert_int_eq(contig_alloc(&w.p, 0, PAGEBLOCK_ORDER, 0, &job, &f), 0);
	ck_assert(!job.stalled);
	ck_assert_uint_eq(w.moves, B / 2);
	/* Frames are short: to move them would help nobody. */
	while (counts(&w, 0).free > 3)
		pool_alloc(&w.p, POOL_NO_CACHE, 0, POOL_NONE, POOL_NONE);
	ck_assert_int_eq(contig_alloc(&w.p, 0, PAGEBLOCK_ORDER, 500, &job, &none), -ENOMEM);
	ck_assert(!job.stalled);
	ck_assert_str_eq(job.who.why, "too few frames are free");
	/* Those that are there cannot move: it says which, and nothing stays isolated. */
	give(&w, f, B / 2);
	for (uint32_t g = (f + B) % (4 * B), i = 0; i < B; i += 2)
		give(&w, g + i, 1);
	w.refuse = -EBUSY;
	ck_assert_int_eq(contig_alloc(&w.p, 0, PAGEBLOCK_ORDER, 0, &job, &none), -EBUSY);
	ck_assert(job.stalled);
	ck_assert_uint_eq(none, POOL_NONE);
	ck_assert_uint_ne(job.who.frame, POOL_NONE);
	ck_assert_uint_eq(counts(&w, 0).isolated, 0);
	ck_assert_uint_eq(w.moves, B / 2);
	pool_deinit(&w.p);
}
END_TEST

START_TEST(taken_out_by_its_owner)
{
	struct pool_culprit who;
	struct world w;

	make(&w, 2, 4 * B, false);
	take(&w, B + 7);
	ck_assert_int_eq(range_take_out(&w.p, B, 2 * B, &who), -EBUSY); /* not isolated */
	ck_assert_int_eq(range_isolate(&w.p, B, 2 * B, &who), 0);
	ck_assert_int_eq(range_take_out(&w.p, B, 3 * B, &who), -EBUSY); /* not all of it */
	ck_assert_uint_eq(who.frame, 2 * B);
	ck_assert_int_eq(range_take_out(&w.p, B, 2 * B, &who), -EBUSY); /* not free */
	ck_assert_uint_eq(who.frame, B + 7);
	ck_assert_int_eq(range_take_out(&w.p, B, 2 * B - 1, &who), -EINVAL);
	ck_assert_uint_eq(counts(&w, 0).offline, 0);
	give(&w, B + 7, 1);
	ck_assert_int_eq(range_take_out(&w.p, B, 2 * B, &who), 0);
	ck_assert_uint_eq(counts(&w, 0).offline, 1);
	ck_assert_uint_eq(counts(&w, 0).isolated, 0);
	ck_assert_int_eq(range_take_out(&w.p, B, 2 * B, &who), -EBUSY);
	ck_assert_int_eq(range_online(&w.p, B, 2 * B), 0);
	take(&w, B + 7);
	pool_deinit(&w.p);
}
END_TEST

START_TEST(map_of_pageblocks)
{
	static const char want[] = "m1xxM1--w0m9";
	char map[INDEX_MAP_CHARS];
	struct range_job job = { 0 };
	struct pool_culprit who;
	uint32_t x = 0;
	struct world w;

	make(&w, 1, 8 * B + 100, false);
	ck_assert(!index_map(&w.p, 0, &x, map));
	take(&w, 5);
	take(&w, 2 * B + 9);
	for (uint32_t f = 5 * B; f < 6 * B; f++)
		take(&w, f);
	ck_assert_int_eq(range_isolate(&w.p, 2 * B, 3 * B, &who), 0);
	ck_assert_int_eq(range_offline(&w.p, B, 2 * B, &job), 0);
	ck_assert_uint_eq(pool_window_reserve(&w.p, 0, 4 * B, 0), 4 * B);
	x = 0;
	ck_assert(index_map(&w.p, 0, &x, map));
	ck_assert_uint_eq(x, 0);
	ck_assert_msg(!memcmp(map, want, sizeof(want) - 1), "%.*s", (int)sizeof(want) - 1, map);
	ck_assert_int_eq(memcmp(map + 16, "--  ", 4), 0); /* the last is short */
	x = 1;
	ck_assert(!index_map(&w.p, 0, &x, map));
	pool_deinit(&w.p);
}
END_TEST

START_TEST(offline_and_online)
{
	struct range_job job = { 0 };
	struct world w;

	make(&w, 1, 4 * B, false);
	fill_out(&w);
	take(&w, B + 1);
	ck_assert_int_eq(range_offline(&w.p, B, 3 * B, &job), 0);
	ck_assert_uint_eq(counts(&w, 0).absent, 2 * B);
	must(!pool_is_free(&w.p, 0, B) && !pool_is_absent(&w.p, B));
	for (uint32_t f = 0; f < 2 * B - 1; f++)
		must(pool_alloc(&w.p, 0, 0, B + 1, POOL_NONE) != POOL_NONE);
	ck_assert_uint_eq(pool_alloc(&w.p, 0, 0, B + 1, POOL_NONE), POOL_NONE);
	ck_assert_int_eq(range_offline(&w.p, B, 2 * B, &job), -EBUSY); /* it is already */
	ck_assert_int_eq(range_online(&w.p, B, 2 * B), 0);
	ck_assert_uint_eq(pool_alloc(&w.p, 0, 0, B + 1, POOL_NONE), B + 1);
	counts(&w, 0);
	pool_deinit(&w.p);
}
END_TEST

/* Tries to have the frame again that was just moved. */
static void take_again(struct world *w, uint32_t frame)
{
	w->got = pool_alloc(&w->p, 0, 0, frame, frame);
}

static void take_again_here(struct world *w, uint32_t frame)
{
	w->nr_got++;
	w->got = pool_alloc(&w->p, 0, 0, frame, (frame + 7) % B);
	must(w->got != POOL_NONE && w->got >= B);
	pool_free(&w->p, 0, w->got, 1, true);
}

/* Between two moves a thread wants the frame that one of them has just emptied. */
START_TEST(taken_again_while_offlining)
{
	struct range_job job = { .timeout_ms = 100 };
	struct world w;

	make(&w, 1, 4 * B, false);
	fill_out(&w);
	take(&w, 7);
	take(&w, 8);
	w.at = POOL_AT_GIVEN;
	w.step = take_again;
	ck_assert_int_eq(range_offline(&w.p, 0, B, &job), 0);
	ck_assert_uint_ge(w.got, B);
	must(!w.step);
	counts(&w, 0);
	pool_deinit(&w.p);
}
END_TEST

/*
 * The same at every moment of it, in vain: it goes on as it would. Where a frame that is retired
 * has it wait, it still ends when its time is over.
 */
START_TEST(taken_again_all_the_while)
{
	struct range_job job = { .timeout_ms = 100 };
	struct world w;
	bool waits = _i;
	int err;

	make(&w, 1, 4 * B, false);
	fill_out(&w);
	for (uint32_t f = 0; f < 20; f++)
		take(&w, f * 7);
	if (waits)
		pool_retire(&w.p, 14);
	w.always = true;
	w.step = take_again_here;
	err = range_offline(&w.p, 0, B, &job);
	w.step = NULL;
	ck_assert_int_eq(err, waits ? -EBUSY : 0);
	ck_assert_uint_le(w.now, job.timeout_ms);
	ck_assert_uint_ge(w.moves, 19);
	ck_assert_uint_ge(w.nr_got, 2 * w.moves);
	ck_assert_uint_eq(counts(&w, 0).isolated, 0);
	pool_deinit(&w.p);
}
END_TEST

static void cancel_now(struct world *w, uint32_t frame)
{
	(void)frame;
	__atomic_store_n(&w->job->cancel, true, __ATOMIC_RELAXED);
}

START_TEST(retired_cancelled_and_late)
{
	struct range_job job = { .timeout_ms = 50 };
	struct world w;

	make(&w, 1, 4 * B, false);
	fill_out(&w);
	pool_retire(&w.p, take(&w, 9));
	take(&w, 10);
	ck_assert_int_eq(range_offline(&w.p, 0, B, &job), -EBUSY);
	ck_assert_uint_eq(job.who.frame, 9);
	ck_assert_uint_eq(w.now, 50);
	ck_assert_uint_eq(counts(&w, 0).isolated, 0);
	w.job = &job;
	w.at = POOL_AT_ISOLATED;
	w.step = cancel_now;
	ck_assert_int_eq(range_offline(&w.p, 0, B, &job), -ECANCELED);
	ck_assert_uint_eq(counts(&w, 0).isolated, 0);
	pool_deinit(&w.p);
}
END_TEST

/* --- threads --- */

/*
 * The shape of the kernel's historic test: contiguous allocations beside a load of movable frames
 * that uses the reserve. Not one frame may be missing from the counts.
 */
enum { RESERVE = 16, BLOCKS = 24, SLOTS = 21 * B, LOADERS = 2, ROUNDS = 30, TURNS = 2000 };
enum { BURST = 16 }; /* frames that a loader gives back before it wants others */
_Static_assert((BLOCKS * B - SLOTS + LOADERS * BURST) * 5 < RESERVE * B,
	       "wherever room is, 80 % are in use");
struct load {
	struct pool p;
	pthread_mutex_t lock;         /* covers slot[] */
	uint32_t slot[SLOTS];         /* frame, or POOL_NONE */
	uint32_t slot_of[BLOCKS * B]; /* of a frame; counts only if that says so, too */
	bool stop;                    /* atomic */
	uint64_t wrong;               /* atomic */
	uint64_t turns;               /* of all loaders; atomic */
};

static void put_into(struct load *l, uint32_t s, uint32_t f)
{
	l->slot[s] = f;
	if (f != POOL_NONE)
		l->slot_of[f] = s;
}

static int move_slot(void *ctx, uint32_t from, uint32_t nr, uint32_t to, struct pool_culprit *who)
{
	struct load *l = ctx;
	int err = -EAGAIN;

	(void)who;
	pthread_mutex_lock(&l->lock);
	if (nr == 1 && l->slot[l->slot_of[from]] == from) {
		put_into(l, l->slot_of[from], to);
		err = 0;
	}
	pthread_mutex_unlock(&l->lock);
	return err;
}

static void empty_slot(struct load *l, uint32_t cache, uint32_t s)
{
	uint32_t f;

	pthread_mutex_lock(&l->lock);
	f = l->slot[s];
	l->slot[s] = POOL_NONE;
	pthread_mutex_unlock(&l->lock);
	if (f != POOL_NONE)
		pool_free(&l->p, cache, f, 1, true);
}

static void fill_slot(struct load *l, uint32_t cache, uint32_t s)
{
	uint32_t f = pool_alloc(&l->p, cache, 0, POOL_NONE, POOL_NONE);

	pthread_mutex_lock(&l->lock);
	if (l->slot[s] == POOL_NONE) {
		put_into(l, s, f);
		f = POOL_NONE;
	}
	pthread_mutex_unlock(&l->lock);
	if (f != POOL_NONE)
		pool_free(&l->p, cache, f, 1, true);
}

/*
 * Frames are given back in bursts, so that caches hold some of the range that is wanted. Otherwise
 * each is had again at once: seen not to notice that what isolation takes out of caches is lost.
 */
static void *load(void *arg)
{
	struct load *l = arg;
	static unsigned int next;
	uint32_t cache = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED) % LOADERS;
	uint64_t rng = 17 + cache;

	for (unsigned int n = 1; !__atomic_load_n(&l->stop, __ATOMIC_RELAXED); n++) {
		uint32_t s[BURST];

		__atomic_fetch_add(&l->turns, BURST, __ATOMIC_RELAXED);
		for (int i = 0; i < BURST; i++) {
			s[i] = (uint32_t)(fake_rand(&rng) % SLOTS);
			empty_slot(l, cache, s[i]);
		}
		/* On a busy machine threads that never sleep hand locks on once a time slice. */
		if (n % 4 == 0)
			usleep(50);
		for (int i = 0; i < BURST; i++)
			fill_slot(l, cache, s[i]);
	}
	return NULL;
}

static void *watch(void *arg)
{
	struct load *l = arg;

	while (!__atomic_load_n(&l->stop, __ATOMIC_RELAXED)) {
		struct pool_counts c;

		usleep(100);
		pool_counts(&l->p, 0, &c);
		if (c.free + c.cached + c.isolated + c.used + c.retired + c.guard + c.window +
			    c.absent !=
		    c.span)
			__atomic_fetch_add(&l->wrong, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void pause_nothing(void *ctx)
{
	(void)ctx;
	usleep(50);
}

static uint64_t clock_of_attempts(void *ctx)
{
	static uint64_t now;

	(void)ctx;
	return now++;
}

START_TEST(contiguous_beside_load)
{
	static const struct pool_ops lops = { .move = move_slot,
					      .pause = pause_nothing,
					      .now_ms = clock_of_attempts };
	struct load *l = calloc(1, sizeof(*l));
	struct pool_config cfg = { .ops = &lops,
				   .ctx = l,
				   .nr_zones = 1,
				   .zone_frames = BLOCKS * B,
				   .nr_caches = LOADERS,
				   .keep_empty = true };
	struct range_job job = { .timeout_ms = 10000 };
	pthread_t t[LOADERS + 1];
	struct pool_culprit who;
	struct pool_counts c;
	unsigned int had = 0;

	ck_assert_int_eq(pool_init(&l->p, &cfg), 0);
	pthread_mutex_init(&l->lock, NULL);
	ck_assert_int_eq(pool_reserve(&l->p, 0, RESERVE, &who), 0);
	for (uint32_t s = 0; s < SLOTS; s++)
		put_into(l, s,
			 pool_alloc(&l->p, POOL_NO_CACHE, 0, s < RESERVE * B ? s : POOL_NONE,
				    POOL_NONE));
	for (int i = 0; i <= LOADERS; i++)
		pthread_create(&t[i], NULL, i < LOADERS ? load : watch, l);
	for (int i = 0; i < ROUNDS; i++) {
		uint32_t at = (uint32_t)i % RESERVE * B;
		uint32_t nr = i % 2 ? B : B / 4 + (uint32_t)i;

		pool_counts(&l->p, 0, &c);
		ck_assert_uint_ge(c.used_of[POOL_RESERVE], RESERVE * B * 8 / 10);
		if (range_alloc(&l->p, at, at + nr, &job))
			continue;
		had++;
		pool_free(&l->p, POOL_NO_CACHE, at, nr, true);
		/* The load takes other frames meanwhile, and comes back to the reserve. */
		do
			pool_counts(&l->p, 0, &c);
		while (!usleep(100) &&
		       (c.used_of[POOL_RESERVE] < RESERVE * B * 8 / 10 ||
			__atomic_load_n(&l->turns, __ATOMIC_RELAXED) < (uint64_t)(i + 1) * TURNS));
	}
	__atomic_store_n(&l->stop, true, __ATOMIC_RELAXED);
	for (int i = 0; i <= LOADERS; i++)
		pthread_join(t[i], NULL);
	ck_assert_uint_eq(l->wrong, 0);
	ck_assert_uint_gt(had, ROUNDS / 2);
	ck_assert_int_eq(pool_check(&l->p), 0);
	for (uint32_t s = 0; s < SLOTS; s++)
		if (l->slot[s] != POOL_NONE)
			pool_free(&l->p, POOL_NO_CACHE, l->slot[s], 1, true);
	pool_drain(&l->p, 0);
	pool_drain(&l->p, 1);
	pool_counts(&l->p, 0, &c);
	ck_assert_uint_eq(c.free + c.absent, c.span); /* none is missing */
	pool_deinit(&l->p);
	free(l);
}
END_TEST

/* What is taken out of use comes back as what it was, also where nothing keeps its extent. */
START_TEST(reserve_comes_back)
{
	struct range_job job = { 0 };
	struct pool_culprit who;
	struct pool_counts c;
	struct world w;

	make(&w, 1, 4 * B, false);
	ck_assert_int_eq(pool_reserve(&w.p, B, 2, &who), 0);
	ck_assert_int_eq(range_offline(&w.p, 0, 4 * B, &job), 0);
	pool_counts(&w.p, 0, &c);
	ck_assert_uint_eq(c.absent, 4 * B);
	ck_assert_int_eq(range_isolate(&w.p, B, 2 * B, &who), -EBUSY);
	ck_assert_int_eq(range_online(&w.p, 0, 4 * B), 0);
	pool_counts(&w.p, 0, &c);
	ck_assert_uint_eq(c.frames_of[POOL_RESERVE], 2 * B);
	ck_assert_uint_eq(c.free_of[POOL_RESERVE], 2 * B);
	ck_assert_uint_eq(c.absent, 2 * B);
	ck_assert_int_eq(pool_check(&w.p), 0);
	pool_deinit(&w.p);
}
END_TEST

Suite *suite_range(void)
{
	Suite *s = suite_create("range");
	TCase *tc = engine_case("range");

	tcase_add_test(tc, bad_ranges);
	tcase_add_test(tc, isolating_counts_what_is_free);
	tcase_add_test(tc, largest_run_over_the_edge);
	tcase_add_test(tc, types_survive_isolation);
	tcase_add_test(tc, first_and_last_and_gone);
	tcase_add_test(tc, two_ranges);
	tcase_add_test(tc, what_cannot_move_is_named);
	tcase_add_test(tc, folio_in_use);
	tcase_add_test(tc, freed_to_a_cache_while_isolated);
	tcase_add_test(tc, cached_frames_are_isolated);
	tcase_add_test(tc, freed_when_isolation_has_ended);
	tcase_add_test(tc, guard_frames_while_isolated);
	tcase_add_test(tc, range_in_the_middle_of_runs);
	tcase_add_test(tc, half_of_a_pair);
	tcase_add_test(tc, contents_move_out_of_the_way);
	tcase_add_test(tc, no_room_elsewhere);
	tcase_add_test(tc, run_made_on_demand);
	tcase_add_test(tc, taken_out_by_its_owner);
	tcase_add_test(tc, map_of_pageblocks);
	tcase_add_test(tc, offline_and_online);
	tcase_add_test(tc, reserve_comes_back);
	tcase_add_test(tc, taken_again_while_offlining);
	tcase_add_loop_test(tc, taken_again_all_the_while, 0, 2);
	tcase_add_test(tc, retired_cancelled_and_late);
	tcase_add_test(tc, contiguous_beside_load);
	suite_add_tcase(s, tc);
	return s;
}
