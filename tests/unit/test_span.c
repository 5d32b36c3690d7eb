/* SPDX-License-Identifier: MIT */
/* test_span.c - half-open ranges: what is left of them, where they meet, and what they hold. */
#include "base/span.h"
#include "fake.h"
#include "suites.h"

#define SPAN(s, e) ((struct span){ s, e })

START_TEST(min_max)
{
	ck_assert_uint_eq(u64_min(3, 5), 3);
	ck_assert_uint_eq(u64_min(UINT64_MAX, 0), 0);
	ck_assert_uint_eq(u64_max(3, 5), 5);
	ck_assert_uint_eq(u64_max(UINT64_MAX, 0), UINT64_MAX);
}
END_TEST

START_TEST(empty_and_length)
{
	must(span_empty(SPAN(0, 0)) && span_empty(SPAN(5, 5)) && span_empty(SPAN(6, 5)));
	must(!span_empty(SPAN(5, 6)) && !span_empty(SPAN(0, UINT64_MAX)));
	ck_assert_uint_eq(span_len(SPAN(5, 9)), 4);
	ck_assert_uint_eq(span_len(SPAN(5, 5)), 0);
	ck_assert_uint_eq(span_len(SPAN(9, 5)), 0); /* not a huge one */
	ck_assert_uint_eq(span_len(SPAN(0, UINT64_MAX)), UINT64_MAX);
}
END_TEST

START_TEST(clip)
{
	struct span s = span_clip(SPAN(10, 20), SPAN(15, 30));

	must(s.start == 15 && s.end == 20);
	s = span_clip(SPAN(10, 20), SPAN(0, 12));
	must(s.start == 10 && s.end == 12);
	s = span_clip(SPAN(10, 20), SPAN(12, 13));
	must(s.start == 12 && s.end == 13);
	s = span_clip(SPAN(12, 13), SPAN(10, 20));
	must(s.start == 12 && s.end == 13);
	must(span_empty(span_clip(SPAN(10, 20), SPAN(20, 30)))); /* they touch */
	must(span_empty(span_clip(SPAN(10, 20), SPAN(25, 30))));
	must(span_empty(span_clip(SPAN(10, 20), SPAN(15, 15))));
	must(span_empty(span_clip(SPAN(20, 10), SPAN(0, 30))));
	/* Clipping an empty span again leaves it empty. */
	must(span_empty(span_clip(span_clip(SPAN(10, 20), SPAN(25, 30)), SPAN(0, 100))));
}
END_TEST

START_TEST(meets_and_holds)
{
	must(span_meets(SPAN(10, 20), SPAN(19, 30)) && span_meets(SPAN(19, 30), SPAN(10, 20)));
	must(!span_meets(SPAN(10, 20), SPAN(20, 30)) && !span_meets(SPAN(20, 30), SPAN(10, 20)));
	must(!span_meets(SPAN(10, 20), SPAN(15, 15)));
	must(span_holds(SPAN(10, 20), 10) && span_holds(SPAN(10, 20), 19));
	must(!span_holds(SPAN(10, 20), 20) && !span_holds(SPAN(10, 20), 9));
	must(!span_holds(SPAN(10, 10), 10) && !span_holds(SPAN(20, 10), 15));
}
END_TEST

/* Against a set of numbers, for every pair of spans in a small universe. */
START_TEST(small_universe)
{
	enum { N = 7 };

	for (uint64_t n = 0; n < N * N * N * N; n++) {
		struct span a = SPAN(n % N, n / N % N), b = SPAN(n / N / N % N, n / N / N / N);
		struct span c = span_clip(a, b);
		uint64_t both = 0;

		for (uint64_t x = 0; x < N; x++) {
			bool in = x >= a.start && x < a.end && x >= b.start && x < b.end;

			must(span_holds(c, x) == in);
			both += in;
		}
		must(span_len(c) == both && span_empty(c) == !both && span_meets(a, b) == !!both);
	}
}
END_TEST

Suite *suite_span(void)
{
	Suite *s = suite_create("span");
	TCase *tc = engine_case("span");

	tcase_add_test(tc, min_max);
	tcase_add_test(tc, empty_and_length);
	tcase_add_test(tc, clip);
	tcase_add_test(tc, meets_and_holds);
	tcase_add_test(tc, small_universe);
	suite_add_tcase(s, tc);
	return s;
}
