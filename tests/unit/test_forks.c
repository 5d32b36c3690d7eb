/* SPDX-License-Identifier: MIT */
/* test_forks.c - a client that forks often has few mappings, and another keeps what it has. */
#include <stdlib.h>

#include "engine/core.h"
#include "fake.h"
#include "suites.h"

#define BASE 0x7f0000000000ull
enum { PAGES = 4800, OWN = 100, PER_MAPPING = 32 };
/* What makes a fork cost twice as much: forks.c. */
enum { DOUBLING = OWN + PAGES / PER_MAPPING };

static struct mm_counters counters(struct fake_client *c)
{
	struct mm_counters n;

	mm_counters(c->mm, &n);
	return n;
}

/* Two clients with the same pages, in another order: the first needs a mapping for each. */
static struct fake *permuted(struct fake_client *c[2])
{
	struct fake *w = fake_new(1, 65536, 0);

	for (int k = 0; k < 2; k++) {
		c[k] = fake_client(w, BASE, PAGES);
		engine_mm_set_vmas(c[k]->mm, OWN, 65530);
		for (uint32_t i = 0; i < PAGES; i++)
			fake_store(c[k], i, 1 + (k ? i : i * 7919 % PAGES));
	}
	fake_tick(w, 1000);
	fake_passes(w, 3);
	for (uint32_t k = 0; k < 2 && fake_vmas(c[0]) < PAGES / 2; k++) { /* which is in order? */
		struct fake_client *b = c[0];

		c[0] = c[1];
		c[1] = b;
	}
	ck_assert_uint_ge(fake_vmas(c[0]), PAGES - 200);
	return w;
}

/* So many seconds, each with a pass and so many forks of the client. */
static void seconds(struct fake *w, struct fake_client *c, int nr, uint32_t forks)
{
	while (nr--) {
		fake_tick(w, 1000);
		if (forks)
			engine_mm_forked(c->mm, forks);
		fake_pass(w);
		fake_answer_all(w);
		fake_check(w);
	}
}

/*
 * It gives back what would make its forks cost more than twice as much, and is told why; the other
 * client keeps all. Seen to fail without shed_mappings(), and with forks_limit() as if there were
 * none.
 */
START_TEST(often)
{
	struct fake_client *c[2];
	struct fake *w = permuted(c);
	struct mm_counters n;
	uint64_t scanned;

	seconds(w, c[0], 90, 20);
	ck_assert_uint_le(fake_vmas(c[0]), DOUBLING + DOUBLING / 8 + 16);
	ck_assert_uint_ge(fake_vmas(c[0]), DOUBLING / 2);
	n = counters(c[0]);
	ck_assert_uint_eq(n.added_vmas, fake_vmas(c[0]));
	ck_assert_uint_le(n.fork_budget, DOUBLING);
	ck_assert_uint_ge(n.fork_budget, DOUBLING * 9 / 10);
	ck_assert_uint_eq(n.forks, 1800);
	ck_assert_uint_eq(n.left_out[KSM_LEFT_VMA_BUDGET], 0);
	/* All that does not stand on a frame. */
	ck_assert_uint_eq(n.left_out[KSM_LEFT_FORK_BUDGET] + n.merging_pages, PAGES);
	ck_assert_uint_eq(fake_counters(w).left_out[KSM_LEFT_FORK_BUDGET],
			  n.left_out[KSM_LEFT_FORK_BUDGET]);
	n = counters(c[1]);
	ck_assert_uint_eq(n.merging_pages, PAGES);
	ck_assert_uint_eq(n.fork_budget, 0);
	/* It has come to rest: nothing is asked for, and nothing is read. */
	scanned = fake_counters(w).total.pages_scanned;
	w->asked = 0;
	seconds(w, c[0], 20, 20);
	ck_assert_uint_eq(w->asked, 0);
	ck_assert_uint_eq(fake_counters(w).total.pages_scanned, scanned);
	fake_free(w);
}
END_TEST

/* One fork in a while costs nothing, however many mappings there are. */
START_TEST(now_and_then)
{
	struct fake_client *c[2];
	struct fake *w = permuted(c);

	for (int i = 0; i < 10; i++) {
		engine_mm_forked(c[0]->mm, 1);
		seconds(w, c[0], 60, 0);
		ck_assert_uint_eq(counters(c[0]).fork_budget, 0);
	}
	ck_assert_uint_eq(w->asked, 0);
	ck_assert_uint_ge(fake_vmas(c[0]), PAGES - 200);
	fake_free(w);
}
END_TEST

/*
 * One that forks no more gets all back, in steps: it does not merge before each fork what it will
 * give back after it. Seen to fail (2,400 pages asked for, again and again) when a limit rises with
 * every pass.
 */
START_TEST(no_more)
{
	struct fake_client *c[2];
	struct fake *w = permuted(c);
	struct mm_counters n;

	seconds(w, c[0], 90, 20);
	seconds(w, c[0], 1200, 0);
	n = counters(c[0]);
	ck_assert_uint_eq(n.fork_budget, 0);
	ck_assert_uint_eq(n.left_out[KSM_LEFT_FORK_BUDGET], 0);
	ck_assert_uint_eq(n.merging_pages, PAGES);
	fake_free(w);
}
END_TEST

/* A fork every 3 seconds: what may be had goes up and down with each, and nothing else does. */
START_TEST(steady)
{
	struct fake_client *c[2];
	struct fake *w = permuted(c);
	uint64_t asked;

	fake_set(w, KNOB_FORK_COST_PERCENT, 0);
	engine_mm_forked(c[0]->mm, 20);
	for (int i = 0; i < 20; i++) {
		engine_mm_forked(c[0]->mm, 1);
		seconds(w, c[0], 3, 0);
	}
	asked = w->asked;
	ck_assert_uint_gt(asked, 0);
	for (int i = 0; i < 100; i++) {
		engine_mm_forked(c[0]->mm, 1);
		seconds(w, c[0], 3, 0);
	}
	ck_assert_uint_eq(w->asked, asked);
	fake_free(w);
}
END_TEST

/* What may be had depends on what the operator lets forks cost. */
START_TEST(cost)
{
	struct fake_client *c[2];
	struct fake *w = permuted(c);

	seconds(w, c[0], 300, 1);
	/* 1 % of a CPU is 2,500 mappings at one fork a second. */
	ck_assert_uint_ge(counters(c[0]).fork_budget, 2400);
	ck_assert_uint_le(counters(c[0]).fork_budget, 2800);
	ck_assert_uint_le(fake_vmas(c[0]), 2800 + 2800 / 8 + 16);
	fake_set(w, KNOB_FORK_COST_PERCENT, 100);
	seconds(w, c[0], 5, 1);
	ck_assert_uint_eq(counters(c[0]).fork_budget, 0);
	ck_assert_uint_ge(fake_vmas(c[0]), PAGES - 200);
	fake_free(w);
}
END_TEST

/* What saves most for a mapping stays. */
START_TEST(long_runs_stay)
{
	struct fake *w = fake_new(1, 65536, 0);
	struct fake_client *a = fake_client(w, BASE, PAGES), *b = fake_client(w, BASE, PAGES);

	/* Of 64 pages 32 side by side are in the same order in both, and the others are not. */
	for (uint32_t i = 0; i < PAGES; i++) {
		uint32_t turned = i / 64 * 64 + 32 + i % 32 * 5 % 32;

		fake_store(a, i, 1 + (i % 64 < 32 ? i : turned));
		fake_store(b, i, 1 + i);
	}
	engine_mm_set_vmas(a->mm, OWN, 65530);
	fake_tick(w, 1000);
	fake_passes(w, 3);
	ck_assert_uint_ge(fake_vmas(a), PAGES / 2 - 100);
	seconds(w, a, 90, 20);
	ck_assert_uint_le(fake_vmas(a), DOUBLING + DOUBLING / 8 + 16);
	for (uint32_t i = 0; i < PAGES; i++)
		if (i % 64 < 32)
			ck_assert_uint_ne(fake_frame(a, i), FAKE_NO_FRAME);
	fake_free(w);
}
END_TEST

/* A client that gives nothing back is asked ever more rarely. */
START_TEST(cannot)
{
	struct fake_client *c[2];
	struct fake *w = permuted(c);
	uint64_t asked;

	c[0]->keeps = true;
	seconds(w, c[0], 200, 20);
	asked = w->asked;
	ck_assert_uint_gt(asked, 0);
	seconds(w, c[0], 200, 20);
	ck_assert_uint_le(w->asked - asked, 5 * PAGES);
	c[0]->keeps = false;
	seconds(w, c[0], 100, 20);
	ck_assert_uint_le(fake_vmas(c[0]), DOUBLING + DOUBLING / 8 + 16);
	fake_free(w);
}
END_TEST

/* Words that a liar may say. */
START_TEST(any_number)
{
	struct fake_client *c[2];
	struct fake *w = permuted(c);

	for (int i = 0; i < 10; i++) {
		engine_mm_forked(c[0]->mm, UINT32_MAX);
		seconds(w, c[0], 1, 0);
	}
	ck_assert_uint_le(counters(c[0]).fork_budget, DOUBLING);
	ck_assert_uint_ge(counters(c[0]).fork_budget, DOUBLING * 9 / 10);
	fake_free(w);
}
END_TEST

Suite *suite_forks(void)
{
	Suite *s = suite_create("forks");
	TCase *tc = engine_case("forks");

	tcase_add_test(tc, often);
	tcase_add_test(tc, now_and_then);
	tcase_add_test(tc, no_more);
	tcase_add_test(tc, steady);
	tcase_add_test(tc, cost);
	tcase_add_test(tc, long_runs_stay);
	tcase_add_test(tc, cannot);
	tcase_add_test(tc, any_number);
	suite_add_tcase(s, tc);
	return s;
}
