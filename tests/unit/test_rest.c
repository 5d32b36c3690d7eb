/* SPDX-License-Identifier: MIT */
/* test_rest.c - pauses after passes that yield little, as a function of what passes cost. */
#include "daemon/rest.h"
#include "suites.h"

/* Passes of so much CPU time over 100,000 pages, until pauses change no more. */
static uint64_t settle(struct rest *r, uint64_t cpu_us, uint64_t yielded, uint32_t percent,
		       uint64_t *least)
{
	const struct rest_pass p = { cpu_us, 0, 100000, yielded, percent };
	uint64_t was, is = rest_after(r, &p, least);

	for (int i = 0; i < 64; i++) {
		was = is;
		is = rest_after(r, &p, least);
		ck_assert_uint_ge(is, was);
		ck_assert_uint_le(is, was * 2 + 1);
		ck_assert_uint_le(*least, is);
	}
	ck_assert_uint_eq(is, was);
	return is;
}

START_TEST(lean_passes_take_a_fiftieth)
{
	struct rest r = { 0 };
	uint64_t least;

	ck_assert_uint_eq(settle(&r, 20000, 999, 10, &least), 980);
	ck_assert_uint_eq(least, 180);
	r = (struct rest){ 0 };
	ck_assert_uint_eq(settle(&r, 48000, 0, 10, &least), 1800); /* not later than that */
	ck_assert_uint_eq(least, 432);
	r = (struct rest){ 0 };
	ck_assert_uint_eq(settle(&r, 10, 0, 10, &least), 0); /* calm memory */
}
END_TEST

START_TEST(the_share_holds)
{
	struct rest r = { 0 };
	uint64_t least;

	ck_assert_uint_eq(settle(&r, 1000000, 0, 10, &least), 9000);
	ck_assert_uint_eq(least, 9000);
	r = (struct rest){ 0 };
	ck_assert_uint_eq(settle(&r, 1000000, 0, 50, &least), 1800);
	ck_assert_uint_eq(least, 1000);
	r = (struct rest){ 0 };
	ck_assert_uint_eq(settle(&r, 1000000, 0, 1, &least), 99000);
	ck_assert_uint_eq(settle(&r, 1000000, 0, 1, &least), 99000);
}
END_TEST

START_TEST(passes_that_yield_do_not_wait)
{
	struct rest r = { 0 };
	uint64_t least;

	ck_assert_uint_eq(settle(&r, 1000000, 1000, 10, &least), 0);
	ck_assert_uint_eq(settle(&r, 1000000, 0, 100, &least), 0); /* no limit */
	ck_assert_uint_eq(settle(&r, 1000000, 0, 10, &least), 9000);
	/* One that yields ends it, and it begins anew. */
	ck_assert_uint_eq(rest_after(&r, &(struct rest_pass){ 50000, 0, 100000, 5000, 10 }, &least),
			  0);
	ck_assert_uint_eq(least, 0);
	ck_assert_uint_eq(rest_after(&r, &(struct rest_pass){ 50000, 0, 100000, 5, 10 }, &least),
			  50);
}
END_TEST

START_TEST(agents_count_as_much_again_at_most)
{
	const struct rest_pass told = { 10000, 5000, 100000, 0, 10 };
	const struct rest_pass lied = { 10000, 1000000000, 100000, 0, 10 };
	struct rest r = { .pause_us = 10000000 };
	uint64_t least;

	ck_assert_uint_eq(rest_after(&r, &told, &least), 735);
	ck_assert_uint_eq(least, 135);
	r.pause_us = 10000000;
	ck_assert_uint_eq(rest_after(&r, &lied, &least), 980);
	ck_assert_uint_eq(least, 180);
}
END_TEST

/* Only a pass after a lean one that finds nothing either, and does not take for ever. */
START_TEST(lean_passes_come_in_stints)
{
	struct rest r = { 0 };
	uint64_t least;

	ck_assert_uint_eq(rest_stint(&r, 0, 0), 0);
	settle(&r, 1400, 0, 10, &least);
	ck_assert_uint_eq(rest_stint(&r, 0, 0), REST_STINT_NS);
	ck_assert_uint_eq(rest_stint(&r, REST_STINTS_NS - 1, 0), REST_STINT_NS);
	ck_assert_uint_eq(rest_stint(&r, REST_STINTS_NS, 0), 0);
	ck_assert_uint_eq(rest_stint(&r, 0, 1), 0);
	ck_assert_uint_eq(rest_after(&r, &(struct rest_pass){ 50000, 0, 100000, 5000, 10 }, &least),
			  0);
	ck_assert_uint_eq(rest_stint(&r, 0, 0), 0);
}
END_TEST

Suite *suite_rest(void)
{
	Suite *s = suite_create("rest");
	TCase *tc = tcase_create("rest");

	tcase_add_test(tc, lean_passes_take_a_fiftieth);
	tcase_add_test(tc, the_share_holds);
	tcase_add_test(tc, passes_that_yield_do_not_wait);
	tcase_add_test(tc, agents_count_as_much_again_at_most);
	tcase_add_test(tc, lean_passes_come_in_stints);
	suite_add_tcase(s, tc);
	return s;
}
