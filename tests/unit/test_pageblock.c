/* SPDX-License-Identifier: MIT */
/* test_pageblock.c - the free runs of a pageblock: split, joined, counted. */
#include <stdlib.h>

#include "pool/pageblock.h"
#include "fake.h"
#include "suites.h"

/* A pageblock with all frames in one run. */
static struct pageblock *all_free(void)
{
	struct pageblock *pb = pageblock_new(0, PAGEBLOCK_FRAMES, POOL_MOVABLE);

	for (uint32_t i = 0; i < PAGEBLOCK_FRAMES; i++)
		pb->state[i] = POOL_FREE;
	pb->n[POOL_ABSENT] = 0;
	pb->n[POOL_FREE] = PAGEBLOCK_FRAMES;
	pageblock_join(pb, 0, PAGEBLOCK_ORDER);
	return pb;
}

static void cut(struct pageblock *pb, uint32_t off, unsigned int order)
{
	pageblock_cut(pb, off, order);
	for (uint32_t i = 0; i < 1u << order; i++)
		pb->state[off + i] = POOL_USED;
	pb->n[POOL_FREE] = (uint16_t)(pb->n[POOL_FREE] - (1u << order));
	pb->n[POOL_USED] = (uint16_t)(pb->n[POOL_USED] + (1u << order));
}

static void join(struct pageblock *pb, uint32_t off)
{
	pb->state[off] = POOL_FREE;
	pb->n[POOL_FREE]++;
	pb->n[POOL_USED]--;
	pageblock_join(pb, off, 0);
}

START_TEST(split_and_join)
{
	struct pageblock *pb = all_free();

	ck_assert_int_eq(pageblock_check(pb), 0);
	cut(pb, 5, 0); /* the run of 512 becomes one of each order below, but for one frame */
	for (unsigned int o = 0; o < PAGEBLOCK_ORDER; o++)
		ck_assert_uint_eq(pb->nr_run[o], 1);
	ck_assert_uint_eq(pageblock_first_run(pb, 0), 4);
	ck_assert_uint_eq(pageblock_first_run(pb, 1), 6);
	ck_assert_uint_eq(pageblock_first_run(pb, 8), 256);
	ck_assert_int_eq(pageblock_check(pb), 0);
	join(pb, 5);
	ck_assert_uint_eq(pb->nr_run[PAGEBLOCK_ORDER], 1);
	ck_assert_uint_eq(pb->has, 1u << PAGEBLOCK_ORDER);
	ck_assert_int_eq(pageblock_check(pb), 0);
	free(pb);
}
END_TEST

START_TEST(check_sees_errors)
{
	struct pageblock *pb = all_free();

	pb->state[9] = POOL_USED; /* still in the run */
	ck_assert_int_eq(pageblock_check(pb), -1);
	pb->state[9] = POOL_FREE;
	pb->nr_run[3]++;
	ck_assert_int_eq(pageblock_check(pb), -1);
	pb->nr_run[3]--;
	pb->nr_fixed++;
	ck_assert_int_eq(pageblock_check(pb), -1);
	free(pb);
}
END_TEST

START_TEST(random_runs)
{
	struct pageblock *pb = all_free();
	uint64_t rng = fake_seed();

	for (int step = 0; step < 20000; step++) {
		uint32_t off = (uint32_t)(fake_rand(&rng) % PAGEBLOCK_FRAMES);
		unsigned int order = (unsigned int)(fake_rand(&rng) % 4);
		bool all = true;

		off &= ~((1u << order) - 1);
		for (uint32_t i = 0; i < 1u << order; i++)
			all &= pb->state[off + i] == POOL_FREE;
		/* What is free and aligned lies within one run, as buddies are joined. */
		if (all)
			cut(pb, off, order);
		else if (pb->state[off] == POOL_USED)
			join(pb, off);
		must(pageblock_check(pb) == 0);
	}
	for (uint32_t i = 0; i < PAGEBLOCK_FRAMES; i++)
		if (pb->state[i] == POOL_USED)
			join(pb, i);
	ck_assert_uint_eq(pb->nr_run[PAGEBLOCK_ORDER], 1);
	free(pb);
}
END_TEST

Suite *suite_pageblock(void)
{
	Suite *s = suite_create("pageblock");
	TCase *tc = engine_case("pageblock");

	tcase_add_test(tc, split_and_join);
	tcase_add_test(tc, check_sees_errors);
	tcase_add_test(tc, random_runs);
	suite_add_tcase(s, tc);
	return s;
}
