/* SPDX-License-Identifier: MIT */
/* test_polls.c - for how long answers keep the next pass waiting. */
#include "daemon/polls.h"
#include "suites.h"

/*
 * Milliseconds until the next pass begins, where 10,000 orders are left and an answer comes every
 * `every` ms; 0: none comes.
 */
static uint64_t put_off(uint64_t cpu_ms, uint64_t max_idle_ms, uint64_t every, bool hurry)
{
	uint64_t orders = 10000, ms = 0;
	struct polls p;

	polls_begin(&p, 7, orders, cpu_ms);
	if (hurry)
		polls_hasten(&p);
	do {
		ms++;
		if (every && ms % every == 0)
			orders--;
	} while (polls_next(&p, 7 + ms, orders, max_idle_ms));
	return ms;
}

START_TEST(a_costly_pass_is_put_off_while_answers_come)
{
	/* With short pauses; a pass of 6 ms waits for 120. */
	ck_assert_uint_eq(put_off(0, 1, 10, false), POLLS_FIRST);
	ck_assert_uint_ge(put_off(6, 1, 10, false), 6 * POLLS_SHARE);
	ck_assert_uint_le(put_off(6, 1, 10, false), 6 * POLLS_SHARE + POLLS_FIRST);
	ck_assert_uint_ge(put_off(500, 1, 10, false), POLLS_MOST_MS);
	ck_assert_uint_le(put_off(500, 1, 10, false), POLLS_MOST_MS + POLLS_FIRST);
	/* No answers come, or somebody waits for passes. */
	ck_assert_uint_eq(put_off(6, 1, 0, false), POLLS_FIRST);
	ck_assert_uint_eq(put_off(500, 1, POLLS_FIRST + 1, false), POLLS_FIRST);
	ck_assert_uint_eq(put_off(500, 1, 10, true), POLLS_FIRST);
}
END_TEST

START_TEST(cheap_passes_wait_for_a_pause)
{
	ck_assert_uint_ge(put_off(0, 1000, 10, false), 1000);
	ck_assert_uint_le(put_off(0, 1000, 10, false), 1000 + POLLS_MORE);
	ck_assert_uint_eq(put_off(0, 1000, 0, false), POLLS_FIRST);
	ck_assert_uint_eq(put_off(0, 1000, 10, true), POLLS_FIRST);
}
END_TEST

START_TEST(the_last_answer_ends_it)
{
	struct polls p;

	polls_begin(&p, 7, 1, 500);
	ck_assert(polls_next(&p, 8, 1, 1000));
	ck_assert(!polls_next(&p, 9, 0, 1000));
}
END_TEST

Suite *suite_polls(void)
{
	Suite *s = suite_create("polls");
	TCase *tc = tcase_create("polls");

	tcase_add_test(tc, a_costly_pass_is_put_off_while_answers_come);
	tcase_add_test(tc, cheap_passes_wait_for_a_pause);
	tcase_add_test(tc, the_last_answer_ends_it);
	suite_add_tcase(s, tc);
	return s;
}
