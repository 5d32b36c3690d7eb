/* SPDX-License-Identifier: MIT */
/* test_slab.c - indexed storage: indices and pointers stay, chunks come and go. */
#include <string.h>

#include "base/slab.h"
#include "fake.h"
#include "suites.h"

struct thing {
	uint64_t a, b, c;
};

START_TEST(random_alloc_free)
{
	static uint32_t idx[5000];
	static struct thing *ptr[5000];
	uint64_t rng = fake_seed();
	struct slab s;
	int nr = 0;

	slab_init(&s, sizeof(struct thing), SLAB_NIL);
	for (int step = 0; step < 50000; step++) {
		if (nr < 5000 && (step < 5000 || fake_rand(&rng) & 1)) {
			idx[nr] = slab_alloc(&s);
			ck_assert_uint_ne(idx[nr], SLAB_NIL);
			ptr[nr] = slab_get(&s, idx[nr], sizeof(struct thing));
			must(!ptr[nr]->a && !ptr[nr]->b && !ptr[nr]->c);
			ptr[nr]->a = idx[nr];
			ptr[nr]->c = ~0ull;
			nr++;
		} else if (nr) {
			int i = (int)(fake_rand(&rng) % (unsigned int)nr);

			ck_assert_ptr_eq(slab_get(&s, idx[i], sizeof(struct thing)), ptr[i]);
			ck_assert_uint_eq(ptr[i]->a, idx[i]);
			slab_free(&s, idx[i]);
			idx[i] = idx[--nr];
			ptr[i] = ptr[nr];
		}
		must(s.nr == (uint32_t)nr);
	}
	while (nr)
		slab_free(&s, idx[--nr]);
	ck_assert_uint_eq(s.nr_chunks, 0);
	slab_deinit(&s);
}
END_TEST

START_TEST(limit_and_memory_returned)
{
	struct slab s;
	uint64_t empty;

	slab_init(&s, sizeof(struct thing), 130);
	for (uint32_t i = 0; i < 128; i++)
		ck_assert_uint_eq(slab_alloc(&s), i);
	ck_assert_uint_eq(slab_alloc(&s), SLAB_NIL);
	for (uint32_t i = 0; i < 128; i++)
		slab_free(&s, 127 - i);
	empty = s.bytes;
	ck_assert_uint_le(empty, 16 * sizeof(void *));
	ck_assert_uint_eq(slab_alloc(&s), 0);
	must(slab_is_used(&s, 0) && !slab_is_used(&s, 1) && !slab_is_used(&s, 64));
	slab_free(&s, 0);
	slab_deinit(&s);
}
END_TEST

Suite *suite_slab(void)
{
	Suite *s = suite_create("slab");
	TCase *tc = engine_case("slab");

	tcase_add_test(tc, random_alloc_free);
	tcase_add_test(tc, limit_and_memory_returned);
	suite_add_tcase(s, tc);
	return s;
}
