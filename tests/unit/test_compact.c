/* SPDX-License-Identifier: MIT */
/*
 * test_compact.c - sparse pageblocks are emptied into others. fake_check() holds every byte and
 * every count after each step; mappings are counted from the clients' pages.
 */
#include "fake.h"
#include "suites.h"

#include <errno.h>

#include "engine/core.h"
#include "engine/settle.h"

enum { ZONE = 16 * PAGEBLOCK_FRAMES, BLOCKS = 6, PART = 60, BLOCK = PAGEBLOCK_FRAMES };
#define BASE 0x7f0000000000ull

/*
 * `clients` clients with the same contents, and an older one, which has gone: what were its windows
 * are pageblocks with 60 frames each, in which the others' pages stand.
 */
static struct fake *world_in(uint32_t zone_frames, int clients)
{
	struct fake *w = fake_new(1, zone_frames, 0);

	for (int i = 0; i <= clients; i++) {
		struct fake_client *c =
			fake_client(w, BASE + (uint64_t)i * 0x10000000, BLOCKS * BLOCK);

		for (uint32_t b = 0; b < BLOCKS; b++)
			fake_fill_unique(c, b * BLOCK, PART, 1000 * (b + 1));
	}
	fake_passes(w, 3);
	fake_exit(w->client[0]);
	engine_epoch_free(w->e, engine_epoch(w->e));
	return w;
}

static struct fake *world(int clients)
{
	return world_in(ZONE, clients);
}

static uint32_t pageblocks(struct fake *w)
{
	struct pool_counts c;

	engine_zone_counts(w->e, 0, &c);
	ck_assert_uint_eq(c.isolated, 0);
	return c.pageblocks;
}

static uint64_t all_vmas(const struct fake *w)
{
	uint64_t nr = 0;

	for (int i = 0; i < w->nr_clients; i++)
		nr += w->client[i] ? fake_vmas(w->client[i]) : 0;
	return nr;
}

static void compact(struct fake *w, bool answers, bool grace)
{
	uint64_t start = w->now_ms;

	ck_assert_int_eq(engine_compact(w->e, 0, COMPACT_ALL), 0);
	while (fake_compact_step(w)) {
		fake_check(w);
		if (answers)
			fake_answer_all(w);
		if (grace)
			engine_epoch_free(w->e, engine_epoch(w->e));
		fake_check(w);
		w->now_ms += 5;
		ck_assert_uint_lt(w->now_ms - start, 60000);
	}
	fake_check(w);
}

/* 360 frames of six pageblocks fit into one, and no mapping more is needed. */
START_TEST(frees_pageblocks)
{
	struct fake *w = world(2);
	uint64_t vmas = all_vmas(w);

	ck_assert_uint_eq(pageblocks(w), BLOCKS);
	compact(w, true, true);
	ck_assert_uint_eq(pageblocks(w), 1);
	ck_assert_uint_eq(w->compacted.pageblocks, BLOCKS - 1);
	ck_assert_uint_le(all_vmas(w), vmas);
	ck_assert_uint_le(w->compacted.vmas_after, w->compacted.vmas_before);
	ck_assert_uint_eq(w->compacted.isolated, (BLOCKS - 1) * PART);
	ck_assert_uint_gt(w->compacted.migrate_scanned, 0);
	ck_assert_uint_gt(w->compacted.free_scanned, 0);
	ck_assert_uint_eq(fake_counters(w).pages_shared, BLOCKS * PART);
	/* Again: there is nothing to gain. */
	compact(w, true, true);
	ck_assert_uint_eq(w->compacted.pageblocks, 0);
	ck_assert_uint_eq(w->compacted.isolated, 0);
	fake_free(w);
}
END_TEST

static uint32_t used_beside(struct fake *w, uint32_t frame)
{
	uint32_t nr = 0, first = frame / BLOCK * BLOCK;

	engine_lock(w->e);
	for (uint32_t f = first; f < first + BLOCK; f++)
		nr += pool_is_used(&w->e->pool, f);
	engine_unlock(w->e);
	return nr;
}

/* Windows of clients that are there are left alone: nothing goes, and nothing comes. */
START_TEST(leaves_windows)
{
	struct fake *w = world(2);
	struct fake_client *c = fake_client(w, BASE + 0x70000000, BLOCK), *d;
	uint32_t frame;

	d = fake_client(w, BASE + 0x78000000, BLOCK);
	fake_fill_unique(c, 0, PART, 1 << 20);
	fake_fill_unique(d, 0, PART, 1 << 20);
	fake_passes(w, 3);
	frame = fake_frame(c, 0);
	ck_assert_uint_eq(used_beside(w, frame), PART);
	compact(w, true, true);
	ck_assert_uint_eq(w->compacted.pageblocks, BLOCKS - 1);
	ck_assert_uint_eq(fake_frame(c, 0), frame);
	ck_assert_uint_eq(used_beside(w, frame), PART);
	fake_free(w);
}
END_TEST

/* Frames between pages that were written lie in their mappings: to move them would part these. */
START_TEST(would_not_pay)
{
	struct fake *w = world(2);
	uint64_t vmas;

	for (int i = 1; i <= 2; i++)
		for (uint32_t p = 0; p < BLOCKS * BLOCK; p += 2)
			if (p % BLOCK < PART)
				fake_store(w->client[i], p, (uint64_t)i << 32 | p);
	fake_passes(w, 3);
	engine_epoch_free(w->e, engine_epoch(w->e));
	vmas = all_vmas(w);
	compact(w, true, true);
	ck_assert_uint_eq(w->compacted.pageblocks, 0);
	ck_assert_uint_eq(w->compacted.isolated, 0);
	ck_assert_uint_ge(w->compacted.skipped, BLOCKS - 1);
	ck_assert_uint_eq(all_vmas(w), vmas);
	fake_free(w);
}
END_TEST

/* Every second page is gone: stretches of one frame. Writes, passes and exits come meanwhile. */
START_TEST(while_clients_go_on)
{
	struct fake *w = world(3);
	uint64_t vmas;

	for (int i = 1; i <= 3; i++)
		for (uint32_t p = 0; p < BLOCKS * BLOCK; p += 2)
			if (p % BLOCK < PART)
				fake_dontneed(w->client[i], p, 1);
	fake_passes(w, 3);
	engine_epoch_free(w->e, engine_epoch(w->e));
	vmas = all_vmas(w);
	ck_assert_int_eq(engine_compact(w->e, 0, COMPACT_ALL), 0);
	for (int n = 0; fake_compact_step(w); n++) {
		int64_t budget = 500;
		struct fake_client *c = w->client[1 + fake_rand(&w->rng) % 3];
		uint32_t page = (uint32_t)(fake_rand(&w->rng) % (BLOCKS * BLOCK));

		fake_check(w);
		fake_answer_all(w);
		if (_i && c && page % BLOCK < PART)
			fake_store(c, page, 1000 * (page / BLOCK + 1) + page % BLOCK);
		if (_i && n % 3 == 0) {
			engine_scan(w->e, 0, &budget);
			engine_flush(w->e, ENGINE_FLUSH_ALL);
		}
		if (_i == 2 && n == 7)
			fake_exit(w->client[2]);
		fake_check(w);
		engine_epoch_free(w->e, engine_epoch(w->e));
		w->now_ms += 5;
	}
	fake_check(w);
	if (!_i) {
		ck_assert_uint_eq(pageblocks(w), 1);
		ck_assert_uint_le(all_vmas(w), vmas);
	}
	fake_passes(w, 3);
	fake_free(w);
}
END_TEST

/* Nobody answers, or no grace period ends: it ends, and nothing stays isolated or taken. */
START_TEST(ends)
{
	struct fake *w = world(2);
	uint64_t used;

	compact(w, _i, false);
	ck_assert_uint_eq(w->compacted.pageblocks, 0);
	pageblocks(w);
	fake_answer_all(w);
	engine_epoch_free(w->e, engine_epoch(w->e));
	used = fake_counters(w).frames_used;
	ck_assert_uint_eq(used, fake_counters(w).pages_shared);
	fake_passes(w, 2);
	compact(w, true, true);
	fake_free(w);
}
END_TEST

START_TEST(cancelled)
{
	struct fake *w = world(2);

	ck_assert_int_eq(engine_compact(w->e, 0, COMPACT_ALL), 0);
	ck_assert_int_eq(engine_compact(w->e, 0, COMPACT_ALL), -EALREADY);
	for (int i = 0; i < _i; i++)
		fake_compact_step(w);
	engine_compact_end(w->e, 0);
	while (fake_compact_step(w)) {
		fake_answer_all(w);
		fake_check(w);
		w->now_ms += 5;
	}
	fake_check(w);
	pageblocks(w);
	fake_free(w);
}
END_TEST

/* What is asked for by itself is passed over for want of frames, and after failures. */
START_TEST(passed_over)
{
	struct fake *w = world(2);

	ck_assert_int_eq(engine_compact(w->e, 1, COMPACT_ALL), -EINVAL);
	ck_assert_int_eq(engine_compact(w->e, -1, COMPACT_ALL), -EINVAL);
	fake_set(w, KNOB_EXTFRAG_THRESHOLD, 1000);
	ck_assert_int_eq(engine_compact(w->e, 0, COMPACT_DIRECT), -EAGAIN);
	fake_set(w, KNOB_EXTFRAG_THRESHOLD, 0);
	for (int shift = 0; shift < 4; shift++) {
		for (int n = 1; n < 1 << shift; n++)
			ck_assert_int_eq(engine_compact(w->e, 0, COMPACT_DIRECT), -EAGAIN);
		ck_assert_int_eq(engine_compact(w->e, 0, COMPACT_DIRECT), 0);
		engine_compact_end(w->e, 0); /* it frees nothing */
		while (fake_compact_step(w))
			fake_answer_all(w);
	}
	ck_assert_int_eq(engine_compact(w->e, 0, COMPACT_DIRECT), -EAGAIN);
	compact(w, true, true); /* the operator's wish is not passed over; and it succeeds */
	ck_assert_uint_gt(w->compacted.pageblocks, 0);
	fake_free(w);
}
END_TEST

/*
 * As soon as one pageblock is free it ends. If nobody has asked for it, it also ends where nothing
 * is to be done unasked, and has moved nothing then.
 */
START_TEST(direct)
{
	struct fake *w = world(2);
	bool ends = _i == 2;

	fake_set(w, KNOB_EXTFRAG_THRESHOLD, 0);
	ck_assert_int_eq(engine_compact(w->e, 0, _i ? COMPACT_BACKGROUND : COMPACT_DIRECT), 0);
	if (_i != 1)
		fake_set(w, KNOB_COMPACTION_PROACTIVENESS, 0);
	while (fake_compact_step(w)) {
		fake_answer_all(w);
		engine_epoch_free(w->e, engine_epoch(w->e));
		fake_check(w);
		w->now_ms += 5;
	}
	ck_assert_uint_eq(w->compacted.pageblocks > 0, !ends);
	ck_assert_uint_lt(w->compacted.pageblocks, BLOCKS - 1);
	pageblocks(w);
	fake_free(w);
}
END_TEST

static void expect_due(struct fake *w, uint64_t eager, enum engine_want want)
{
	fake_set(w, KNOB_COMPACTION_PROACTIVENESS, eager);
	ck_assert_int_eq(engine_wants_compaction(w->e, 0), want);
}

/*
 * Six pageblocks of sixteen, 37 % of the numbers, exist, and none has room for a window. It is due
 * unasked where the knob says that so many are too many, and is not when they are together, nor
 * where most of what is free is in whole pageblocks.
 */
START_TEST(due)
{
	struct fake *w = world(2);
	struct pool_culprit who;

	expect_due(w, 0, WANT_NOTHING);
	expect_due(w, 62, WANT_NOTHING);
	expect_due(w, 63, WANT_BACKGROUND);
	expect_due(w, 100, WANT_BACKGROUND);
	compact(w, true, true);
	ck_assert_uint_eq(pageblocks(w), 1);
	expect_due(w, 63, WANT_NOTHING);
	engine_lock(w->e);
	ck_assert_int_eq(pool_reserve(&w->e->pool, BLOCKS * BLOCK, 9, &who), 0);
	engine_unlock(w->e);
	ck_assert_uint_eq(pageblocks(w), 10);
	expect_due(w, 63, WANT_NOTHING);
	fake_free(w);
	/* All of the zone, and the knob says never. */
	w = world_in(BLOCKS * BLOCK, 2);
	expect_due(w, 0, WANT_NOTHING);
	expect_due(w, 1, WANT_BACKGROUND);
	fake_free(w);
}
END_TEST

Suite *suite_compact(void)
{
	Suite *s = suite_create("compact");
	TCase *tc = engine_case("compact");

	tcase_add_test(tc, frees_pageblocks);
	tcase_add_test(tc, leaves_windows);
	tcase_add_test(tc, would_not_pay);
	tcase_add_loop_test(tc, while_clients_go_on, 0, 3);
	tcase_add_loop_test(tc, ends, 0, 2);
	tcase_add_loop_test(tc, cancelled, 0, 5);
	tcase_add_test(tc, passed_over);
	tcase_add_test(tc, due);
	tcase_add_loop_test(tc, direct, 0, 3);
	suite_add_tcase(s, tc);
	return s;
}
