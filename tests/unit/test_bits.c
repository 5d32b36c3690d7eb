/* SPDX-License-Identifier: MIT */
/* test_bits.c - bitmaps: each bit by itself, the first clear one, and how many are set. */
#include "base/bits.h"
#include "fake.h"
#include "suites.h"

enum { NR = 192 };

START_TEST(words)
{
	ck_assert_uint_eq(u64_first(1), 0);
	ck_assert_uint_eq(u64_first(1ull << 63), 63);
	ck_assert_uint_eq(u64_first(0xf0), 4);
	ck_assert_uint_eq(u64_ones(0), 0);
	ck_assert_uint_eq(u64_ones(~0ull), 64);
	for (uint32_t i = 0; i < 64; i++)
		must(u64_first(u64_bit(i)) == i && u64_ones(u64_bit(i)) == 1);
}
END_TEST

START_TEST(first_clear_crosses_words)
{
	uint64_t map[NR / 64] = { 0 };

	for (uint32_t i = 0; i < NR; i++) {
		ck_assert_uint_eq(bits_first_clear(map, NR), i);
		bits_set(map, i);
	}
	ck_assert_uint_eq(bits_first_clear(map, NR), NR);
	ck_assert_uint_eq(bits_ones(map, NR), NR);
	bits_clear(map, 64);
	bits_clear(map, 191);
	ck_assert_uint_eq(bits_first_clear(map, NR), 64);
	bits_set(map, 64);
	ck_assert_uint_eq(bits_first_clear(map, NR), 191);
	ck_assert_uint_eq(bits_first_clear(map, 64), 64); /* no further than it is told */
	ck_assert_uint_eq(bits_ones(map, 128), 128);
}
END_TEST

START_TEST(random_bits)
{
	uint64_t map[NR / 64] = { 0 }, rng = fake_seed();
	bool set[NR] = { false };

	for (int step = 0; step < 20000; step++) {
		uint32_t i = (uint32_t)(fake_rand(&rng) % NR), ones = 0, first = NR;

		set[i] = fake_rand(&rng) & 1;
		if (set[i])
			bits_set(map, i);
		else
			bits_clear(map, i);
		for (uint32_t n = NR; n-- > 0;) {
			must(bits_test(map, n) == set[n]);
			ones += set[n];
			if (!set[n])
				first = n;
		}
		must(bits_ones(map, NR) == ones && bits_first_clear(map, NR) == first);
	}
}
END_TEST

Suite *suite_bits(void)
{
	Suite *s = suite_create("bits");
	TCase *tc = engine_case("bits");

	tcase_add_test(tc, words);
	tcase_add_test(tc, first_clear_crosses_words);
	tcase_add_test(tc, random_bits);
	suite_add_tcase(s, tc);
	return s;
}
