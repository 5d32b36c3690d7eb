/* SPDX-License-Identifier: MIT */
/* test_still.c - which clients passes pass by, as a function of what is known of them. */
#include "engine/still.h"
#include "suites.h"

/* Passes every 100 ms for so long, and what each finds is more by so much. Returns the looks. */
static int looks_in(struct still *s, struct still_signs *now, uint64_t ms, uint64_t ran,
		    uint64_t changes)
{
	int looks = 0;

	for (uint64_t end = now->now_ms + ms; now->now_ms < end; now->now_ms += 100) {
		looks += !still_pass(s, now);
		now->ran += ran;
		now->changes += changes;
	}
	return looks;
}

START_TEST(sleepers_are_looked_at_ever_more_rarely)
{
	struct still_signs now = { .now_ms = 1, .ran = 5 };
	struct still s = { 0 };

	ck_assert_int_eq(looks_in(&s, &now, 100, 0, 0), 1);
	ck_assert_int_lt(looks_in(&s, &now, 100000, 0, 0), 20);
	ck_assert_int_eq(looks_in(&s, &now, 160000, 0, 0), 10);
	now.ran++;
	ck_assert_int_eq(looks_in(&s, &now, 100, 0, 0), 1);
	/* One that always runs is always looked at. */
	ck_assert_int_eq(looks_in(&s, &now, 10000, 1, 0), 100);
}
END_TEST

START_TEST(few_changes_among_many_mappings_wait)
{
	struct still_signs now = { .now_ms = 1, .ran = 5, .changes = 9, .mappings = 31990 };
	struct still s = { 0 };

	/* 3.2 s apart, whether it runs a little for ever or not. */
	ck_assert_int_eq(looks_in(&s, &now, 32100, 1, 1), 11);
	/* 5,000 changes a second: the look comes after 500 of them. */
	ck_assert_int_ge(looks_in(&s, &now, 10000, 1, 500), 99);
	/* 1,000 a second: after five times 100. */
	now.changes += 500;
	ck_assert_int_eq(looks_in(&s, &now, 10000, 1, 100), 20);
	/* Changes that are not known may be many. */
	now.changes = 0;
	ck_assert_int_eq(looks_in(&s, &now, 10000, 1, 0), 100);
	/* It slept since, which says enough. */
	ck_assert_int_le(looks_in(&s, &now, 100000, 0, 0), 13);
}
END_TEST

START_TEST(some_are_never_passed_by)
{
	struct still_signs now = { .now_ms = 1, .mappings = 32 };
	struct still s = { 0 };

	ck_assert_int_eq(looks_in(&s, &now, 10000, 0, 0), 100); /* nobody knows whether it runs */
	now.ran = 5;
	now.due = true;
	ck_assert_int_eq(looks_in(&s, &now, 10000, 0, 0), 100);
	now.due = false;
	ck_assert(!still_pass(&s, &now));
	ck_assert(still_pass(&s, &now));
	still_spoil(&s);
	ck_assert(!still_pass(&s, &now));
	ck_assert(still_pass(&s, &now));
}
END_TEST

Suite *suite_still(void)
{
	Suite *s = suite_create("still");
	TCase *tc = tcase_create("still");

	tcase_add_test(tc, sleepers_are_looked_at_ever_more_rarely);
	tcase_add_test(tc, few_changes_among_many_mappings_wait);
	tcase_add_test(tc, some_are_never_passed_by);
	suite_add_tcase(s, tc);
	return s;
}
