/* SPDX-License-Identifier: MIT */
/* test_advisor.c - the scan-time advisor as a function of its inputs. */
#include "engine/advisor.h"
#include "suites.h"

static struct ksm_knobs knobs_with(uint32_t pages, uint32_t target, uint32_t max_cpu)
{
	struct ksm_knobs k;

	knobs_init(&k);
	atomic_store(&k.v[KNOB_PAGES_TO_SCAN], pages);
	atomic_store(&k.v[KNOB_ADVISOR_TARGET_SCAN_TIME], target);
	atomic_store(&k.v[KNOB_ADVISOR_MAX_CPU], max_cpu);
	return k;
}

static uint32_t step(struct advisor *a, const struct ksm_knobs *k, uint64_t s, uint64_t cpu_ms)
{
	struct advisor_input in = { .scan_ms = s * 1000, .cpu_ms = cpu_ms, .pages = 1000 };

	return advisor_pages_to_scan(a, &in, k);
}

START_TEST(on_target_nothing_changes)
{
	struct ksm_knobs k = knobs_with(2000, 200, 70);
	struct advisor a = { 0 };

	ck_assert_uint_eq(step(&a, &k, 200, 2000), 2000);
	ck_assert_uint_eq(step(&a, &k, 200, 2000), 2000);
}
END_TEST

START_TEST(too_slow_and_too_fast)
{
	struct ksm_knobs k = knobs_with(2000, 200, 70);
	struct advisor a = { 0 };

	/* Twice as long as wished: factor 50 %, so twice the pages. */
	ck_assert_uint_eq(step(&a, &k, 400, 4000), 4000);
	a = (struct advisor){ 0 };
	ck_assert_uint_eq(step(&a, &k, 100, 1000), 1000);
}
END_TEST

START_TEST(change_is_smoothed)
{
	struct ksm_knobs k = knobs_with(2000, 200, 70);
	struct advisor a = { 0 };

	ck_assert_uint_eq(step(&a, &k, 200, 2000), 2000);
	/* Twice as long: change 200 %, smoothed (70 * 100 + 30 * 200) / 100 = 130 %. */
	ck_assert_uint_eq(step(&a, &k, 400, 4000), 2000 * 2 * 130 / 100);
	ck_assert_uint_eq(a.change, 130);
}
END_TEST

START_TEST(limits)
{
	struct ksm_knobs k = knobs_with(2000, 200, 70);
	struct advisor a = { 0 };
	struct advisor_input none = { .scan_ms = 1, .cpu_ms = 1, .pages = 0 };

	/* CPU: it used 50 %, 2000 / 50 = 40 pages per percent, 70 % allow 2800. */
	ck_assert_uint_eq(step(&a, &k, 400, 200000), 2800);
	a = (struct advisor){ 0 };
	ck_assert_uint_eq(step(&a, &k, 100000, 1000), 30000); /* maximum */
	a = (struct advisor){ 0 };
	ck_assert_uint_eq(step(&a, &k, 0, 0), 500);                    /* minimum */
	ck_assert_uint_eq(advisor_pages_to_scan(&a, &none, &k), 2000); /* nothing to learn from */
	/* Nonsense in, something in range out. */
	k = knobs_with(UINT32_MAX, UINT32_MAX, 100);
	a = (struct advisor){ .scan_time = 1, .change = UINT32_MAX };
	ck_assert_uint_le(step(&a, &k, UINT32_MAX, UINT32_MAX), 30000);
	atomic_store(&k.v[KNOB_ADVISOR_MIN_PAGES_TO_SCAN], 40000); /* above the maximum: it wins */
	ck_assert_uint_eq(step(&a, &k, 200, 200), 30000);
}
END_TEST

START_TEST(converges)
{
	struct ksm_knobs k = knobs_with(500, 200, 70);
	struct advisor a = { 0 };
	uint32_t pages = 500;
	int i;

	/* 10^6 pages a pass; a batch every 20 ms. The pages of a pass set its time. */
	for (i = 0; i < 60; i++) {
		uint64_t s = 1000000 / pages * 20 / 1000;

		pages = step(&a, &k, s, s * 10);
		atomic_store(&k.v[KNOB_PAGES_TO_SCAN], pages);
	}
	ck_assert_uint_ge(pages, 500);
	ck_assert_uint_le(pages, 30000);
}
END_TEST

Suite *suite_advisor(void)
{
	Suite *s = suite_create("advisor");
	TCase *tc = tcase_create("advisor");

	tcase_add_test(tc, on_target_nothing_changes);
	tcase_add_test(tc, too_slow_and_too_fast);
	tcase_add_test(tc, change_is_smoothed);
	tcase_add_test(tc, limits);
	tcase_add_test(tc, converges);
	suite_add_tcase(s, tc);
	return s;
}
