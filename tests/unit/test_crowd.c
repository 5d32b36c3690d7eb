/* SPDX-License-Identifier: MIT */
/* test_crowd.c - contents that wait: for processes that hold the same, or for a random time. */
#include <stdlib.h>

#include "engine/core.h"
#include "fake.h"
#include "suites.h"

#define BASE 0x7f0000000000ull
#define MANY 8 /* clients */

static struct fake_client *v[MANY];

/* Clients with `nr` pages each; the first `alike` of them are one family. */
static struct fake *world(int clients, uint32_t nr, int alike)
{
	struct fake *w = fake_new(1, 65536, 0);

	for (int i = 0; i < clients; i++) {
		v[i] = fake_client(w, BASE + (uint64_t)i * 0x100000000, nr);
		engine_mm_set_family(v[i]->mm, i < alike ? 1000 : 2000 + (uint64_t)i);
	}
	return w;
}

/* Passes, between which time goes by. */
static void work(struct fake *w, int passes, uint64_t ms)
{
	while (passes--) {
		fake_tick(w, ms);
		fake_pass(w);
	}
}

/* Seen to fail when min_sharers counts pages, or clients, in place of families. */
START_TEST(one_family_is_not_enough)
{
	struct fake *w = world(4, 20, 3);
	struct engine_counters n;

	fake_set(w, KNOB_MIN_SHARERS, 2);
	for (int i = 0; i < 3; i++)
		fake_fill(v[i], 0, 20, 7);
	work(w, 4, 20);
	n = fake_counters(w);
	ck_assert_uint_eq(n.frames_used, 0);
	ck_assert_uint_eq(n.pages_waiting, 60);
	ck_assert_uint_eq(n.pages_volatile, 0);
	fake_store(v[3], 5, 7);
	work(w, 3, 20);
	n = fake_counters(w);
	ck_assert_uint_eq(n.pages_shared, 1);
	ck_assert_uint_eq(n.pages_sharing, 60);
	ck_assert_uint_eq(n.pages_waiting, 0);
	fake_free(w);
}
END_TEST

START_TEST(so_many_families)
{
	uint32_t min = (uint32_t)_i + 1;
	struct fake *w = world(MANY, 70, 0);

	fake_set(w, KNOB_MIN_SHARERS, min);
	for (uint32_t i = 0; i < MANY; i++) {
		fake_fill_unique(v[i], 0, 70, 100);
		work(w, 3, 20);
		ck_assert_uint_eq(fake_counters(w).pages_shared, i + 1 >= min && i > 0 ? 70 : 0);
		/* Merged, waiting or unique: none is lost. */
		ck_assert_uint_eq(fake_counters(w).pages_volatile, 0);
	}
	ck_assert_uint_eq(fake_counters(w).pages_sharing, 70 * (MANY - 1));
	fake_free(w);
}
END_TEST

enum leave { WRITES, EXITS, WITHDRAWS, REPLACES };

/* Seen to fail when a page that was written goes on counting (see.c). */
START_TEST(who_left_does_not_count)
{
	struct fake *w = world(4, 10, 0);

	fake_set(w, KNOB_MIN_SHARERS, 3);
	fake_fill(v[0], 0, 10, 7);
	fake_fill(v[1], 0, 10, 7);
	work(w, 2, 20);
	if (_i == WRITES)
		fake_fill_unique(v[0], 0, 10, 100);
	else if (_i == EXITS)
		fake_exit(v[0]);
	else if (_i == WITHDRAWS)
		fake_del(v[0], 0, 10);
	else
		fake_dontneed(v[0], 0, 10);
	fake_fill(v[2], 0, 10, 7);
	work(w, 4, 20);
	ck_assert_uint_eq(fake_counters(w).frames_used, 0);
	fake_fill(v[3], 0, 10, 7);
	work(w, 4, 20);
	ck_assert_uint_eq(fake_counters(w).pages_shared, 1);
	ck_assert_uint_eq(fake_counters(w).pages_sharing, 29);
	fake_free(w);
}
END_TEST

/* A bar for making frames, not for keeping them: what was told is told. */
START_TEST(frames_outlive_their_sharers)
{
	struct fake *w = world(4, 10, 0);
	uint32_t frame;

	fake_set(w, KNOB_MIN_SHARERS, 3);
	for (int i = 0; i < 3; i++)
		fake_fill(v[i], 0, 10, 7);
	work(w, 4, 20);
	frame = fake_frame(v[0], 0);
	ck_assert_uint_ne(frame, FAKE_NO_FRAME);
	fake_exit(v[1]);
	fake_exit(v[2]);
	fake_fill(v[3], 0, 10, 7);
	work(w, 2, 20);
	ck_assert_uint_eq(fake_frame(v[0], 0), frame);
	ck_assert_uint_eq(fake_frame(v[3], 0), frame);
	fake_free(w);
}
END_TEST

START_TEST(knob_changes)
{
	struct fake *w = world(3, 64, 0);
	uint64_t reads;

	fake_set(w, KNOB_MIN_SHARERS, 4);
	for (int i = 0; i < 3; i++)
		fake_fill_unique(v[i], 0, 64, 100);
	work(w, 4, 20);
	ck_assert_uint_eq(fake_counters(w).pages_waiting, 3 * 64);
	/* Waiting costs no reading. */
	reads = w->reads;
	work(w, 4, 20);
	ck_assert_uint_eq(w->reads, reads);
	fake_set(w, KNOB_MIN_SHARERS, _i ? 3 : 1);
	work(w, 4, 20);
	ck_assert_uint_eq(fake_counters(w).pages_waiting, 0);
	ck_assert_uint_eq(fake_counters(w).pages_sharing, 2 * 64);
	fake_free(w);
}
END_TEST

/* A page that changed without being seen to is found out when it is read for the frame. */
START_TEST(read_again_before_a_frame)
{
	struct fake *w = world(3, 10, 0);

	fake_set(w, KNOB_MERGE_DELAY_MILLISECS, 1000);
	fake_fill(v[0], 0, 1, 7);
	fake_fill(v[1], 0, 1, 7);
	work(w, 2, 0);
	ck_assert_uint_eq(fake_counters(w).pages_waiting, 2);
	for (int i = 0; i < 2; i++)
		v[i]->page[0].tag = 50 + (uint64_t)i; /* and tracking does not say so */
	work(w, 4, 2000);
	ck_assert_uint_eq(fake_counters(w).frames_used, 0);
	fake_free(w);
}
END_TEST

/* Seen to fail when a page goes to a frame that is there without waiting. */
START_TEST(everybody_waits)
{
	struct fake *w = world(3, 2048, 0);
	uint64_t merged = 0, last = 0;

	fake_set(w, KNOB_MERGE_DELAY_MILLISECS, 1000);
	fake_fill_unique(v[0], 0, 2048, 5000);
	fake_fill_unique(v[1], 0, 2048, 5000);
	work(w, 2, 0);
	ck_assert_uint_lt(fake_counters(w).pages_sharing, 20);
	for (int tenth = 1; tenth <= 10; tenth++) {
		fake_tick(w, 100);
		fake_passes(w, 2);
		merged = fake_counters(w).pages_sharing;
		/* 205 are expected in each tenth; 14 is the standard deviation. */
		ck_assert_uint_gt(merged - last, 205 - 85);
		ck_assert_uint_lt(merged - last, 205 + 85);
		last = merged;
	}
	work(w, 2, 1);
	ck_assert_uint_eq(fake_counters(w).pages_sharing, 2048);
	/* The third finds frames, and waits all the same. */
	fake_fill_unique(v[2], 0, 2048, 5000);
	work(w, 2, 0);
	ck_assert_uint_lt(fake_counters(w).pages_sharing, 2048 + 20);
	fake_tick(w, 500);
	fake_passes(w, 2);
	merged = fake_counters(w).pages_sharing - 2048;
	ck_assert_uint_gt(merged, 1024 - 120);
	ck_assert_uint_lt(merged, 1024 + 120);
	work(w, 2, 1000);
	ck_assert_uint_eq(fake_counters(w).pages_sharing, 4096);
	ck_assert_uint_eq(fake_counters(w).pages_waiting, 0);
	fake_free(w);
}
END_TEST

START_TEST(full_frames_and_waiting)
{
	struct fake *w = world(4, 9, 0);
	struct engine_counters n;

	fake_set(w, KNOB_MAX_PAGE_SHARING, 4);
	fake_set(w, _i ? KNOB_MERGE_DELAY_MILLISECS : KNOB_MIN_SHARERS, 3);
	for (int i = 0; i < 4; i++)
		fake_fill(v[i], 0, 9, 7);
	work(w, 30, 10);
	n = fake_counters(w);
	ck_assert_uint_eq(n.pages_shared, 9);
	ck_assert_uint_eq(n.pages_sharing, 27);
	fake_exit(v[0]);
	work(w, 10, 10);
	n = fake_counters(w);
	ck_assert_uint_eq(n.pages_shared + n.pages_sharing + n.pages_unshared, 27);
	ck_assert_uint_eq(n.pages_waiting, 0);
	fake_free(w);
}
END_TEST

START_TEST(no_frame_to_be_had)
{
	struct fake *w = fake_new(1, 4096, 1);

	for (int i = 0; i < 2; i++) {
		v[i] = fake_client(w, BASE + (uint64_t)i * 0x100000000, 2);
		fake_fill_unique(v[i], 0, 2, 7);
	}
	fake_set(w, KNOB_MIN_SHARERS, 2);
	work(w, 40, 20);
	ck_assert_uint_eq(fake_counters(w).pages_shared, 1);
	fake_exit(v[0]);
	fake_exit(v[1]);
	fake_free(w);
}
END_TEST

Suite *suite_crowd(void)
{
	Suite *s = suite_create("crowd");
	TCase *tc = engine_case("crowd");

	tcase_add_test(tc, one_family_is_not_enough);
	tcase_add_loop_test(tc, so_many_families, 0, KNOB_MIN_SHARERS_MAX);
	tcase_add_loop_test(tc, who_left_does_not_count, 0, 4);
	tcase_add_test(tc, frames_outlive_their_sharers);
	tcase_add_loop_test(tc, knob_changes, 0, 2);
	tcase_add_test(tc, read_again_before_a_frame);
	tcase_add_test(tc, everybody_waits);
	tcase_add_loop_test(tc, full_frames_and_waiting, 0, 2);
	tcase_add_test(tc, no_frame_to_be_had);
	suite_add_tcase(s, tc);
	return s;
}
