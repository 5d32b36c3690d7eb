/* SPDX-License-Identifier: MIT */
/* test_pageblock.c - pageblocks and extents: counts, the lowest free frame, and what is freed. */
#include <stdlib.h>

#include "pool/extent.h"
#include "fake.h"
#include "suites.h"

START_TEST(fill_and_empty_a_pageblock)
{
	struct pageblock *pb = pageblock_new(3);

	ck_assert_uint_eq(pageblock_recount(pb, 3), 0);
	for (uint32_t i = 0; i < PAGEBLOCK_FRAMES; i++) {
		ck_assert_uint_eq(pageblock_first_free(pb), i);
		pageblock_take(pb, i);
		ck_assert_uint_eq(pb->word[i], POOL_NONE);
	}
	ck_assert_uint_eq(pageblock_first_free(pb), PAGEBLOCK_FRAMES);
	ck_assert_uint_eq(pb->nr_free, 0);
	ck_assert_uint_eq(pageblock_recount(pb, 3), PAGEBLOCK_FRAMES);
	must(!pageblock_give(pb, 70));
	must(!pageblock_is_used(pb, 70) && pageblock_is_used(pb, 71));
	ck_assert_uint_eq(pageblock_first_free(pb), 70);
	pageblock_take(pb, 70);
	for (uint32_t i = 0; i < PAGEBLOCK_FRAMES; i++)
		must(pageblock_give(pb, i) == (i == PAGEBLOCK_FRAMES - 1));
	free(pb);
}
END_TEST

START_TEST(recount_sees_errors)
{
	struct pageblock *pb = pageblock_new(1);

	pageblock_take(pb, 9);
	ck_assert_uint_eq(pageblock_recount(pb, 1), 1);
	ck_assert_uint_eq(pageblock_recount(pb, 0), POOL_NONE); /* another node's */
	bits_set(pb->used, 10);                                 /* not counted */
	ck_assert_uint_eq(pageblock_recount(pb, 1), POOL_NONE);
	free(pb);
}
END_TEST

START_TEST(extent_lowest_first)
{
	struct extent *x = extent_new();
	uint64_t bytes = 0;

	for (uint32_t f = 0; f < 3 * PAGEBLOCK_FRAMES; f++) {
		ck_assert_uint_eq(extent_first_free(x), f);
		ck_assert_int_eq(extent_take(x, 0, f, &bytes), 0);
	}
	ck_assert_int_eq(extent_check(x, 0), 0);
	ck_assert_uint_eq(bytes, 3 * sizeof(struct pageblock));
	/* The hint goes back with a frame that is given back. */
	extent_give(x, PAGEBLOCK_FRAMES + 4, &bytes);
	ck_assert_uint_eq(extent_first_free(x), PAGEBLOCK_FRAMES + 4);
	extent_give(x, 3, &bytes);
	ck_assert_uint_eq(extent_first_free(x), 3);
	ck_assert_int_eq(extent_check(x, 0), 0);
	ck_assert_int_eq(extent_check(x, 1), -1);
	/* A pageblock goes with its last frame, in the middle as well. */
	for (uint32_t f = PAGEBLOCK_FRAMES; f < 2 * PAGEBLOCK_FRAMES; f++)
		if (f != PAGEBLOCK_FRAMES + 4)
			extent_give(x, f, &bytes);
	ck_assert_ptr_null(extent_pageblock(x, PAGEBLOCK_FRAMES));
	ck_assert_uint_eq(bytes, 2 * sizeof(struct pageblock));
	ck_assert_int_eq(extent_take(x, 0, 3, &bytes), 0);
	ck_assert_uint_eq(extent_first_free(x), PAGEBLOCK_FRAMES);
	ck_assert_int_eq(extent_check(x, 0), 0);
	extent_free(x);
}
END_TEST

START_TEST(extent_kept_by_use_or_reservation)
{
	struct extent *x = extent_new();
	uint64_t bytes = 0;

	ck_assert_int_eq(extent_check(x, 0), -1);
	x->reserved = true;
	ck_assert_int_eq(extent_check(x, 0), 0);
	x->reserved = false;
	ck_assert_int_eq(extent_take(x, 0, EXTENT_FRAMES - 1, &bytes), 0);
	ck_assert_int_eq(extent_check(x, 0), 0);
	extent_give(x, EXTENT_FRAMES - 1, &bytes);
	ck_assert_uint_eq(bytes, 0);
	extent_free(x);
	extent_free(NULL);
}
END_TEST

Suite *suite_pageblock(void)
{
	Suite *s = suite_create("pageblock");
	TCase *tc = engine_case("pageblock");

	tcase_add_test(tc, fill_and_empty_a_pageblock);
	tcase_add_test(tc, recount_sees_errors);
	tcase_add_test(tc, extent_lowest_first);
	tcase_add_test(tc, extent_kept_by_use_or_reservation);
	suite_add_tcase(s, tc);
	return s;
}
