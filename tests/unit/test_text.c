/* SPDX-License-Identifier: MIT */
/* test_text.c - a string that grows, and numbers that were written by others. */
#include "base/text.h"
#include "fake.h"
#include "suites.h"

START_TEST(pieces)
{
	struct text t = { 0 };

	text_add(&t, NULL, 0);
	ck_assert_uint_eq(t.len, 0);
	for (int i = 0; i < 1000; i++)
		text_printf(&t, "%d,", i % 10);
	must(t.len == 2000 && t.room >= t.len && !t.failed);
	must(!memcmp(t.data, "0,1,2,3,4,5,6,7,8,9,0,", 22));
	text_consume(&t, 1996);
	must(t.len == 4 && !memcmp(t.data, "8,9,", 4));
	text_consume(&t, 4);
	must(!t.data && !t.room);
}
END_TEST

static void expect(const char *s, int base, int err, uint64_t v)
{
	uint64_t got = 0;

	ck_assert_msg(text_number(s, base, &got) == err, "\"%s\"", s);
	if (!err)
		ck_assert_uint_eq(got, v);
}

START_TEST(numbers)
{
	uint64_t v;
	char *end;

	expect("0", 10, 0, 0);
	expect("010", 10, 0, 10);
	expect("18446744073709551615", 10, 0, UINT64_MAX);
	expect("18446744073709551616", 10, -ERANGE, 0);
	expect("18446744073709551616x", 10, -EINVAL, 0);
	expect("0xff", 0, 0, 255);
	expect("0xff", 10, -EINVAL, 0);
	expect("010", 0, 0, 8);
	expect("0x", 0, -EINVAL, 0);
	/* What strtoull() would take. */
	expect("", 10, -EINVAL, 0);
	expect("-1", 10, -EINVAL, 0);
	expect("+1", 10, -EINVAL, 0);
	expect(" 1", 10, -EINVAL, 0);
	expect("1 ", 10, -EINVAL, 0);
	expect("1\n", 10, -EINVAL, 0);
	ck_assert_int_eq(text_leading_number("12 \n", 10, &v, &end), 0);
	must(v == 12 && !strcmp(end, " \n"));
	ck_assert_int_eq(text_leading_number("x", 10, &v, &end), -EINVAL);
	ck_assert_str_eq(end, "x");
}
END_TEST

Suite *suite_text(void)
{
	Suite *s = suite_create("text");
	TCase *tc = engine_case("text");

	tcase_add_test(tc, pieces);
	tcase_add_test(tc, numbers);
	suite_add_tcase(s, tc);
	return s;
}
