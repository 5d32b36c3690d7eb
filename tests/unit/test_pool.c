/* SPDX-License-Identifier: MIT */
/* test_pool.c - the allocator of frames: wishes, types, windows, caches, limits, counts. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pool/index.h"
#include "pool/pool.h"
#include "fake.h"
#include "suites.h"

#define B PAGEBLOCK_FRAMES

/* What was punched. */
struct punched {
	uint32_t calls, frames, first, nr;
};

static void punch(void *ctx, uint32_t first, uint32_t nr)
{
	struct punched *p = ctx;

	p->calls++;
	p->frames += nr;
	p->first = first;
	p->nr = nr;
}

static const struct pool_ops ops = { .punch = punch };

static void make(struct pool *p, int zones, uint32_t frames, uint32_t max)
{
	struct pool_config cfg = {
		.nr_zones = zones, .zone_frames = frames, .max_frames = max, .nr_caches = 2
	};

	ck_assert_int_eq(pool_init(p, &cfg), 0);
}

static void make_kept(struct pool *p, uint32_t frames)
{
	struct pool_config cfg = {
		.nr_zones = 1, .zone_frames = frames, .nr_caches = 2, .keep_empty = true
	};

	ck_assert_int_eq(pool_init(p, &cfg), 0);
}

static uint32_t any(struct pool *p, int nid)
{
	return pool_alloc(p, POOL_NO_CACHE, nid, POOL_NONE, POOL_NONE);
}

static void give(struct pool *p, uint32_t frame)
{
	pool_free(p, POOL_NO_CACHE, frame, 1, true);
}

static struct pool_counts counts(struct pool *p, int nid)
{
	struct pool_counts c;

	ck_assert_int_eq(pool_check(p), 0);
	pool_counts(p, nid, &c);
	return c;
}

START_TEST(bad_sizes)
{
	struct pool_config cfg = { .nr_zones = 0, .zone_frames = 10 };
	struct pool p;

	ck_assert_int_eq(pool_init(&p, &cfg), -EINVAL);
	cfg = (struct pool_config){ .nr_zones = 1, .zone_frames = 0 };
	ck_assert_int_eq(pool_init(&p, &cfg), -EINVAL);
	cfg.zone_frames = 0xffffffff;
	ck_assert_int_eq(pool_init(&p, &cfg), -EINVAL);
	cfg = (struct pool_config){ .nr_zones = 64, .zone_frames = 1u << 26 };
	ck_assert_int_eq(pool_init(&p, &cfg), -EINVAL);
	pool_deinit(&p);
	/* As many frames as have numbers. */
	make(&p, 1, 0xfffffffe, 0);
	ck_assert_uint_eq(pool_alloc(&p, POOL_NO_CACHE, 0, 0xfffffffd, POOL_NONE), 0xfffffffd);
	give(&p, 0xfffffffd);
	pool_deinit(&p);
}
END_TEST

START_TEST(wishes)
{
	struct pool p;
	uint32_t w, w2, f;

	make(&p, 2, 4 * EXTENT_FRAMES, 0);
	w = pool_window_reserve(&p, 0, POOL_NONE, 3);
	w2 = pool_window_reserve(&p, 1, POOL_NONE, 3);
	ck_assert_uint_eq(w % EXTENT_FRAMES, 3 * B);
	ck_assert_int_eq(pool_nid(&p, w2), 1);
	ck_assert_uint_eq(pool_alloc(&p, 0, 0, POOL_NONE, w + 7), w + 7);
	ck_assert_uint_eq(pool_alloc(&p, 0, 0, w + 8, w + 9), w + 8); /* the best first */
	ck_assert_uint_eq(pool_alloc(&p, 0, 0, w + 8, w + 9), w + 9); /* best taken: second */
	f = pool_alloc(&p, 0, 0, w + 8, w + 9); /* both taken: not in the window */
	ck_assert_int_eq(pool_nid(&p, f), 0);
	must(f < w || f >= w + B);
	ck_assert_int_eq(pool_nid(&p, pool_alloc(&p, 0, 1, w + 100, POOL_NONE)), 1);
	/* A wish for a frame that the thread's own cache holds. */
	must(pool_is_free(&p, 0, f + 5));
	ck_assert_uint_eq(pool_alloc(&p, 0, 0, f + 5, POOL_NONE), f + 5);
	ck_assert_uint_eq(pool_alloc(&p, 0, 0, POOL_NONE, POOL_NONE), f + 1);
	pool_set_word(&p, w + 7, 1234);
	ck_assert_uint_eq(pool_word(&p, w + 7), 1234);
	ck_assert_uint_eq(pool_word(&p, w + 6), POOL_NONE);
	ck_assert_uint_eq(pool_word(&p, 0xfffffff0), POOL_NONE);
	/* In an absent pageblock, which comes to exist. */
	ck_assert_uint_eq(pool_alloc(&p, 0, 0, w + 5 * B + 1, POOL_NONE), w + 5 * B + 1);
	ck_assert_uint_eq(counts(&p, 0).window, B - 3);
	pool_window_release(&p, w);
	ck_assert_uint_eq(counts(&p, 0).window, 0);
	for (f = w + 7; f < w + 10; f++)
		give(&p, f);
	must(pool_is_absent(&p, w));
	pool_deinit(&p);
}
END_TEST

START_TEST(words_start_empty)
{
	struct pool p;

	make(&p, 2, 100, 0);
	must(pool_is_free(&p, 1, 130) && !pool_is_free(&p, 0, 130));
	must(!pool_is_free(&p, 1, 200) && !pool_is_free(&p, 1, POOL_NONE));
	ck_assert_uint_eq(pool_alloc(&p, 0, 1, 130, POOL_NONE), 130);
	must(!pool_is_free(&p, 1, 130) && pool_is_used(&p, 130) && !pool_is_used(&p, 30));
	/* A frame starts without a word, also when its last user left one. */
	pool_set_word(&p, 130, 7);
	ck_assert_uint_eq(pool_alloc(&p, 0, 1, 131, POOL_NONE), 131);
	give(&p, 130);
	ck_assert_uint_eq(pool_word(&p, 130), POOL_NONE);
	ck_assert_uint_eq(pool_alloc(&p, 0, 1, 130, POOL_NONE), 130);
	ck_assert_uint_eq(pool_word(&p, 130), POOL_NONE);
	pool_deinit(&p);
}
END_TEST

START_TEST(limit_and_zone_end)
{
	struct pool p;

	make(&p, 2, 100, 120);
	for (int i = 0; i < 100; i++)
		ck_assert_uint_lt(any(&p, 0), 100);
	ck_assert_uint_eq(any(&p, 0), POOL_NONE); /* zone is full */
	for (uint32_t f = 100; f < 140; f += 2)
		ck_assert_uint_eq(pool_alloc(&p, 0, 1, f, POOL_NONE), f);
	ck_assert_uint_eq(any(&p, 1), POOL_NONE); /* limit */
	give(&p, 5);
	ck_assert_uint_eq(any(&p, 0), 5);
	ck_assert_uint_eq(counts(&p, 0).used, 100);
	ck_assert_uint_eq(counts(&p, 1).used, 20);
	pool_deinit(&p);
}
END_TEST

/* A pageblock exists while something in it is used, and what it costs is counted. */
START_TEST(zones_grow_and_shrink)
{
	struct pool p;
	uint64_t empty;
	uint32_t w;

	make(&p, 1, 3 * EXTENT_FRAMES, 0);
	empty = pool_bytes(&p);
	ck_assert_uint_eq(counts(&p, 0).absent, 3 * EXTENT_FRAMES);
	w = pool_window_reserve(&p, 0, POOL_NONE, 9);
	ck_assert_uint_eq(pool_bytes(&p), empty + sizeof(struct extent) + sizeof(struct pageblock));
	ck_assert_uint_eq(pool_alloc(&p, POOL_NO_CACHE, 0, w + 5, POOL_NONE), w + 5);
	for (uint32_t f = 0; f <= B; f++)
		ck_assert_uint_ne(any(&p, 0), POOL_NONE);
	ck_assert_uint_eq(counts(&p, 0).pageblocks, 3);
	ck_assert_uint_eq(counts(&p, 0).absent, 3 * EXTENT_FRAMES - 3 * B);
	for (uint32_t f = 0; f < 3 * EXTENT_FRAMES; f++)
		if (pool_is_used(&p, f) && f != w + 5)
			give(&p, f);
	ck_assert_uint_eq(counts(&p, 0).pageblocks, 1);
	pool_window_release(&p, w);
	give(&p, w + 5);
	ck_assert_uint_eq(pool_bytes(&p), empty);
	pool_deinit(&p);
}
END_TEST

/* Single frames fill one pageblock after the other. */
START_TEST(single_frames_stay_together)
{
	struct pool p;
	uint32_t first;

	make(&p, 1, 8 * EXTENT_FRAMES, 0);
	first = any(&p, 0);
	for (uint32_t i = 1; i < 2 * B; i++)
		ck_assert_uint_eq(any(&p, 0), first + i);
	pool_deinit(&p);
}
END_TEST

START_TEST(windows_go_on_with_one_another)
{
	struct pool p;
	uint32_t w, v;

	make(&p, 1, 2 * EXTENT_FRAMES, 0);
	w = pool_window_reserve(&p, 0, POOL_NONE, 0);
	ck_assert_uint_eq(pool_window_reserve(&p, 0, w + B, 1), w + B);
	v = pool_window_reserve(&p, 0, w + B, 1); /* taken: elsewhere, in an extent of its own */
	ck_assert_uint_ne(v / EXTENT_FRAMES, w / EXTENT_FRAMES);
	/* All extents are begun: any absent pageblock will do, and in the end there is none. */
	for (uint32_t i = 3; i < 2 * EXTENT_PAGEBLOCKS; i++)
		ck_assert_uint_ne(pool_window_reserve(&p, 0, POOL_NONE, 7), POOL_NONE);
	ck_assert_uint_eq(pool_window_reserve(&p, 0, POOL_NONE, 7), POOL_NONE);
	/* The limit is a promise: others then get frames in windows. */
	for (uint32_t i = 0; i < 2 * EXTENT_FRAMES; i++)
		must(any(&p, 0) != POOL_NONE);
	ck_assert_uint_eq(any(&p, 0), POOL_NONE);
	ck_assert_uint_eq(counts(&p, 0).window, 0);
	pool_deinit(&p);
}
END_TEST

/* A run, or POOL_NONE for want of frames. */
static uint32_t run_of(struct pool *p, enum pool_type type, unsigned int order)
{
	uint32_t f;
	int err = pool_alloc_run(p, 0, type, order, &f);

	ck_assert_int_eq(err, f == POOL_NONE ? -ENOMEM : 0);
	return f;
}

START_TEST(runs_of_all_orders)
{
	struct pool p;
	uint32_t f[POOL_ORDERS], none = 0;

	make(&p, 1, 64 * B, 0);
	for (unsigned int o = 0; o < POOL_ORDERS; o++) {
		f[o] = run_of(&p, POOL_MOVABLE, o);
		ck_assert_uint_ne(f[o], POOL_NONE);
		ck_assert_uint_eq(f[o] % (1u << o), 0);
	}
	ck_assert_int_eq(pool_alloc_run(&p, 0, POOL_MOVABLE, POOL_ORDERS, &none), -EINVAL);
	ck_assert_uint_eq(none, POOL_NONE);
	ck_assert_int_eq(pool_alloc_run(&p, 0, POOL_MOVABLE, UINT32_MAX, &none), -EINVAL);
	ck_assert_int_eq(pool_alloc_run(&p, 1, POOL_MOVABLE, 0, &none), -EINVAL);
	ck_assert_int_eq(pool_alloc_run(&p, -1, POOL_MOVABLE, 0, &none), -EINVAL);
	ck_assert_int_eq(pool_alloc_run(&p, 0, POOL_TYPES, 0, &none), -EINVAL);
	ck_assert_uint_eq(counts(&p, 0).used, 2047);
	/* A part of a run may come back alone. */
	pool_free(&p, POOL_NO_CACHE, f[4] + 3, 2, true);
	counts(&p, 0);
	pool_free(&p, POOL_NO_CACHE, f[4], 3, true);
	pool_free(&p, POOL_NO_CACHE, f[4] + 5, 11, true);
	for (unsigned int o = 0; o < POOL_ORDERS; o++)
		if (o != 4)
			pool_free(&p, POOL_NO_CACHE, f[o], 1u << o, true);
	ck_assert_uint_eq(counts(&p, 0).absent, 64 * B);
	pool_deinit(&p);
}
END_TEST

/* Frames that cannot move take a pageblock whole, and leave the reserve alone. */
START_TEST(types)
{
	struct pool_culprit who;
	struct pool_counts c;
	struct pool p;
	uint32_t f;

	make(&p, 1, 4 * B, 0);
	ck_assert_int_eq(pool_reserve(&p, 0, 2, &who), 0);
	c = counts(&p, 0);
	ck_assert_uint_eq(c.free, 2 * B);
	ck_assert_uint_eq(c.free_of[POOL_RESERVE], 2 * B); /* in both */
	f = any(&p, 0);
	ck_assert_uint_ge(f, 2 * B); /* half of what is free is in the reserve, not more */
	for (uint32_t i = 0; i < 4; i++)
		any(&p, 0);
	ck_assert_uint_ge(counts(&p, 0).used_of[POOL_RESERVE], 2); /* now it is more */
	f = run_of(&p, POOL_UNMOVABLE, 0);
	ck_assert_uint_ge(f, 2 * B);
	/* All but the reserve: the last of them steal what movable frames have left. */
	while ((f = run_of(&p, POOL_UNMOVABLE, 0)) != POOL_NONE)
		ck_assert_uint_ge(f, 2 * B);
	c = counts(&p, 0);
	ck_assert_uint_eq(c.free_of[POOL_MOVABLE] + c.free_of[POOL_UNMOVABLE], 0);
	while (any(&p, 0) != POOL_NONE)
		;
	ck_assert_uint_eq(counts(&p, 0).used, 4 * B);
	ck_assert_int_eq(pool_reserve(&p, 0, 1, &who), -EBUSY);
	ck_assert_uint_eq(who.frame, 0);
	ck_assert_int_eq(pool_reserve(&p, 1, 1, &who), -EINVAL);
	ck_assert_int_eq(pool_reserve(&p, 0, 5, &who), -EINVAL);
	pool_deinit(&p);
}
END_TEST

START_TEST(stealing_takes_whole_pageblocks)
{
	struct pool p;
	uint32_t f, g;

	make_kept(&p, 2 * B);
	f = any(&p, 0);
	while (!counts(&p, 0).absent && any(&p, 0) != POOL_NONE)
		;
	g = pool_alloc(&p, POOL_NO_CACHE, 0, B + 7, POOL_NONE); /* both pageblocks exist */
	ck_assert_uint_eq(g, B + 7);
	g = run_of(&p, POOL_UNMOVABLE, 0);
	ck_assert_uint_ne(g, POOL_NONE);
	/* The next one is in the same pageblock, which is of its type now. */
	ck_assert_uint_eq(run_of(&p, POOL_UNMOVABLE, 0) / B, g / B);
	ck_assert_uint_ge(counts(&p, 0).free_of[POOL_UNMOVABLE], B - 3);
	give(&p, f);
	counts(&p, 0);
	pool_deinit(&p);
}
END_TEST

/* What exists is found in a large span, over extents and zones that are absent. */
START_TEST(present)
{
	static const uint32_t at[] = { 5 * B + 7, 66 * B, 67 * B + 511, 64 * 300 * B + 1 };
	const uint32_t zone = 64 * 200 * B;
	struct pool p;

	make(&p, 3, zone, 0);
	ck_assert_uint_eq(pool_next_present(&p, 0), POOL_NONE);
	for (int i = 0; i < 4; i++)
		pool_alloc(&p, POOL_NO_CACHE, pool_nid(&p, at[i]), at[i], POOL_NONE);
	for (int i = 0; i < 4; i++) {
		uint32_t first = at[i] / B * B, before = i ? at[i - 1] / B * B + B : 0;

		ck_assert_uint_eq(pool_next_present(&p, before), first);
		ck_assert_uint_eq(pool_next_present(&p, first), first);
		ck_assert_uint_eq(pool_next_present(&p, first + B - 1), first + B - 1);
	}
	ck_assert_uint_eq(pool_next_present(&p, at[3] / B * B + B), POOL_NONE);
	ck_assert_uint_eq(pool_next_present(&p, 3 * zone), POOL_NONE);
	ck_assert_uint_eq(pool_next_present(&p, POOL_NONE), POOL_NONE);
	pool_deinit(&p);
}
END_TEST

START_TEST(retired_frames)
{
	struct pool p;
	uint32_t f;

	make(&p, 1, B, 0);
	f = any(&p, 0);
	any(&p, 0);
	pool_retire(&p, f);
	must(pool_is_used(&p, f) && !pool_is_free(&p, 0, f));
	ck_assert_uint_eq(counts(&p, 0).retired, 1);
	ck_assert_uint_eq(counts(&p, 0).used, 1);
	pool_revive(&p, f);
	ck_assert_uint_eq(counts(&p, 0).used, 2);
	pool_retire(&p, f);
	give(&p, f);
	ck_assert_uint_eq(counts(&p, 0).retired, 0);
	pool_deinit(&p);
}
END_TEST

START_TEST(caches)
{
	struct pool p;
	uint32_t f, v[3 * POOL_CACHE_FRAMES];

	make(&p, 1, 2 * B, 0);
	f = pool_alloc(&p, 0, 0, POOL_NONE, POOL_NONE);
	ck_assert_uint_eq(counts(&p, 0).cached, POOL_CACHE_BATCH - 1);
	ck_assert_uint_eq(counts(&p, 0).used, 1);
	/* The last one given is the first one had. */
	pool_free(&p, 0, f, 1, true);
	ck_assert_uint_eq(counts(&p, 0).cached, POOL_CACHE_BATCH);
	ck_assert_uint_eq(pool_alloc(&p, 0, 0, POOL_NONE, POOL_NONE), f);
	pool_free(&p, 0, f, 1, true);
	pool_drain(&p, 0);
	ck_assert_uint_eq(counts(&p, 0).absent, 2 * B);
	/* It never holds more than it can. */
	for (uint32_t i = 0; i < 3 * POOL_CACHE_FRAMES; i++)
		v[i] = any(&p, 0);
	for (uint32_t i = 0; i < 3 * POOL_CACHE_FRAMES; i++)
		pool_free(&p, 1, v[i], 1, true);
	ck_assert_uint_le(counts(&p, 0).cached, POOL_CACHE_FRAMES);
	/* A frame in another's cache is had when it is the last. */
	for (uint32_t i = 0; i < 2 * B; i++)
		must(pool_alloc(&p, 0, 0, POOL_NONE, POOL_NONE) != POOL_NONE);
	ck_assert_uint_eq(counts(&p, 0).cached, 0);
	pool_deinit(&p);
}
END_TEST

START_TEST(guard_frames)
{
	struct pool_config cfg = { .nr_zones = 1, .zone_frames = 4 * B, .guard = true };
	struct pool p;
	uint32_t f, g, h;

	ck_assert_int_eq(pool_init(&p, &cfg), 0);
	f = run_of(&p, POOL_MOVABLE, 3);
	g = run_of(&p, POOL_MOVABLE, 0);
	ck_assert_uint_eq(counts(&p, 0).guard, 2);
	/* Nobody gets the frame after a run, by wish or otherwise, and each has its own. */
	h = pool_alloc(&p, POOL_NO_CACHE, 0, f + 8, g + 1);
	ck_assert_uint_ne(h, f + 8);
	ck_assert_uint_ne(h, g + 1);
	ck_assert_uint_eq(counts(&p, 0).guard, 3);
	ck_assert(!pool_is_free(&p, 0, h + 1));
	/* What is left of a run has one, too. */
	pool_free(&p, POOL_NO_CACHE, f + 5, 3, true);
	ck_assert_uint_eq(counts(&p, 0).guard, 3);
	ck_assert_uint_ne(pool_alloc(&p, POOL_NO_CACHE, 0, f + 5, POOL_NONE), f + 5);
	ck_assert_uint_eq(counts(&p, 0).guard, 4);
	pool_free(&p, POOL_NO_CACHE, f, 5, true);
	ck_assert_uint_eq(counts(&p, 0).guard, 3);
	pool_free(&p, POOL_NO_CACHE, g, 1, true);
	pool_free(&p, POOL_NO_CACHE, h, 1, true);
	ck_assert_uint_eq(counts(&p, 0).guard, 1);
	/* A wish is granted where there is room for the guard, so never at a pageblock's end. */
	ck_assert_uint_eq(pool_alloc(&p, POOL_NO_CACHE, 0, 2 * B + 9, POOL_NONE), 2 * B + 9);
	ck_assert_uint_ne(pool_alloc(&p, POOL_NO_CACHE, 0, 2 * B + 8, POOL_NONE), 2 * B + 8);
	ck_assert(!pool_is_free(&p, 0, 4 * B - 1));
	ck_assert_uint_ne(pool_alloc(&p, POOL_NO_CACHE, 0, 4 * B - 1, POOL_NONE), 4 * B - 1);
	pool_deinit(&p);
}
END_TEST

/* A window's last frame is kept, and what is in use when the window ends has a guard. */
START_TEST(guarded_windows)
{
	struct pool_config cfg = { .nr_zones = 1, .zone_frames = 4 * B, .guard = true };
	struct pool p;
	uint32_t f;

	ck_assert_int_eq(pool_init(&p, &cfg), 0);
	f = pool_window_reserve(&p, 0, POOL_NONE, 0);
	ck_assert_uint_ne(f, POOL_NONE);
	ck_assert_uint_eq(counts(&p, 0).guard, 1);
	ck_assert_uint_eq(counts(&p, 0).window, B - 1);
	for (uint32_t i = 0; i < 3; i++) {
		ck_assert_uint_eq(pool_alloc(&p, 0, 0, f + i, POOL_NONE), f + i);
		ck_assert_uint_eq(pool_alloc(&p, 0, 0, f + B - 2 - i, POOL_NONE), f + B - 2 - i);
	}
	ck_assert_uint_eq(counts(&p, 0).guard, 1);
	ck_assert_uint_ne(pool_alloc(&p, 0, 0, f + B - 1, POOL_NONE), f + B - 1);
	ck_assert_uint_eq(counts(&p, 0).guard, 2);
	/* Others never get what a window does not use. */
	while (pool_alloc(&p, 0, 0, POOL_NONE, POOL_NONE) != POOL_NONE)
		;
	ck_assert_uint_eq(counts(&p, 0).window, B - 7);
	pool_free(&p, 0, f + B - 2, 1, true);
	ck_assert(!pool_is_free(&p, 0, f + B - 1));
	pool_window_release(&p, f);
	ck_assert_uint_eq(counts(&p, 0).window, 0);
	ck_assert(!pool_is_free(&p, 0, f + 3));
	ck_assert(pool_is_free(&p, 0, f + 4));
	ck_assert(!pool_is_free(&p, 0, f + B - 2));
	ck_assert(!pool_is_free(&p, 0, f + B - 1)); /* its own guard would be beyond */
	pool_free(&p, 0, f, 3, true);
	ck_assert(pool_is_free(&p, 0, f + 3));
	pool_free(&p, 0, f + B - 4, 2, true);
	ck_assert(pool_is_absent(&p, f)); /* nothing is left of it, guards included */
	ck_assert_int_eq(pool_check(&p), 0);
	pool_deinit(&p);
}
END_TEST

/* What was reserved is so when it was used and is empty again, and when other pageblocks go. */
START_TEST(reserve_stays)
{
	struct pool_culprit who;
	uint32_t f[B];
	struct pool p;

	make(&p, 1, 4 * B, 0);
	ck_assert_int_eq(pool_reserve(&p, B, 1, &who), 0);
	ck_assert_uint_eq(counts(&p, 0).free_of[POOL_RESERVE], B);
	for (uint32_t i = 0; i < B; i++) {
		f[i] = pool_alloc(&p, POOL_NO_CACHE, 0, B + i, POOL_NONE);
		must(f[i] == B + i);
	}
	ck_assert_uint_eq(counts(&p, 0).used_of[POOL_RESERVE], B);
	for (uint32_t i = 0; i < B; i++)
		give(&p, f[i]);
	ck_assert_uint_eq(counts(&p, 0).free_of[POOL_RESERVE], B);
	give(&p, any(&p, 0));
	ck_assert_uint_eq(counts(&p, 0).free_of[POOL_RESERVE], B);
	ck_assert_uint_eq(counts(&p, 0).pageblocks, 1);
	pool_deinit(&p);
}
END_TEST

/* A large folio is punched as a whole, and none of its frames is had again before that. */
START_TEST(large_folios)
{
	struct punched done = { 0 };
	struct pool_config cfg = {
		.ops = &ops, .ctx = &done, .nr_zones = 1, .zone_frames = 2 * B, .nr_caches = 1
	};
	struct pool p;
	uint32_t f;

	ck_assert_int_eq(pool_init(&p, &cfg), 0);
	ck_assert_int_eq(pool_set_large(&p, 0), -EINVAL); /* nobody has a frame of it */
	f = run_of(&p, POOL_MOVABLE, PAGEBLOCK_ORDER);
	ck_assert_int_eq(pool_set_large(&p, f), 0);
	done = (struct punched){ 0 };
	for (uint32_t i = 0; i < B - 1; i++)
		pool_free(&p, 0, f + i, 1, true);
	ck_assert_uint_eq(done.calls, 0);
	ck_assert_uint_eq(counts(&p, 0).retired, B - 1);
	must(!pool_is_free(&p, 0, f) && !pool_is_used(&p, f));
	ck_assert_uint_ne(pool_alloc(&p, 0, 0, f, f + 1) / B, f / B);
	pool_free(&p, 0, f + B - 1, 1, true);
	ck_assert_uint_eq(done.calls, 1);
	ck_assert_uint_eq(done.first, f);
	ck_assert_uint_eq(done.nr, B);
	ck_assert_uint_eq(counts(&p, 0).retired, 0);
	must(pool_is_absent(&p, f));
	pool_deinit(&p);
}
END_TEST

START_TEST(indices)
{
	uint64_t nr[POOL_ORDERS];
	struct pool p;

	make_kept(&p, 4 * B);
	for (uint32_t f = 0; f < 4 * B; f++)
		must(any(&p, 0) != POOL_NONE);
	index_runs(&p, 0, POOL_TYPES, nr);
	ck_assert_int_eq(index_unusable(nr, 0), 1000);
	ck_assert_int_eq(index_fragmentation(nr, 9), 0); /* nothing is free: want of memory */
	for (uint32_t f = 0; f < 4 * B; f += 2)
		give(&p, f);
	index_runs(&p, 0, POOL_MOVABLE, nr);
	ck_assert_uint_eq(nr[0], 2 * B);
	ck_assert_int_eq(index_unusable(nr, 0), 0);
	ck_assert_int_eq(index_unusable(nr, 1), 1000);
	ck_assert_int_eq(index_fragmentation(nr, 0), INDEX_FITS);
	ck_assert_int_gt(index_fragmentation(nr, 9), 990); /* half is free: fragmentation */
	for (uint32_t f = 1; f < 2 * B; f += 2)
		give(&p, f);
	index_runs(&p, 0, POOL_TYPES, nr);
	ck_assert_uint_eq(nr[POOL_MAX_ORDER], 1); /* the first two pageblocks are a pair */
	ck_assert_int_eq(index_fragmentation(nr, 9), INDEX_FITS);
	ck_assert_int_eq(index_unusable(nr, 9), 333);
	counts(&p, 0);
	pool_deinit(&p);
}
END_TEST

Suite *suite_pool(void)
{
	Suite *s = suite_create("pool");
	TCase *tc = engine_case("pool");

	tcase_add_test(tc, bad_sizes);
	tcase_add_test(tc, wishes);
	tcase_add_test(tc, words_start_empty);
	tcase_add_test(tc, limit_and_zone_end);
	tcase_add_test(tc, zones_grow_and_shrink);
	tcase_add_test(tc, single_frames_stay_together);
	tcase_add_test(tc, windows_go_on_with_one_another);
	tcase_add_test(tc, runs_of_all_orders);
	tcase_add_test(tc, types);
	tcase_add_test(tc, stealing_takes_whole_pageblocks);
	tcase_add_test(tc, present);
	tcase_add_test(tc, retired_frames);
	tcase_add_test(tc, caches);
	tcase_add_test(tc, guard_frames);
	tcase_add_test(tc, guarded_windows);
	tcase_add_test(tc, reserve_stays);
	tcase_add_test(tc, large_folios);
	tcase_add_test(tc, indices);
	suite_add_tcase(s, tc);
	return s;
}
