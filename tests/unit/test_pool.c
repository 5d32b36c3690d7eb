/* SPDX-License-Identifier: MIT */
/* test_pool.c - frames: wishes honoured when possible, zones and limits always. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pool/pool.h"
#include "fake.h"
#include "suites.h"

START_TEST(bad_sizes)
{
	struct pool p;

	ck_assert_int_eq(pool_init(&p, 0, 10), -EINVAL);
	ck_assert_int_eq(pool_init(&p, 1, 0), -EINVAL);
	ck_assert_int_eq(pool_init(&p, 1, 0xffffffff), -EINVAL);
	ck_assert_int_eq(pool_init(&p, 64, 1u << 26), -EINVAL);
	/* As many frames as have numbers. */
	ck_assert_int_eq(pool_init(&p, 1, 0xfffffffe), 0);
	ck_assert_uint_eq(pool_alloc(&p, 0, 0xfffffffd, POOL_NONE), 0xfffffffd);
	ck_assert_int_eq(pool_check(&p), 0);
	pool_free(&p, 0xfffffffd);
	pool_deinit(&p);
}
END_TEST

START_TEST(wishes)
{
	struct pool p;
	uint32_t w, w2, f;

	ck_assert_int_eq(pool_init(&p, 2, 4 * EXTENT_FRAMES), 0);
	w = pool_extent_reserve(&p, 0);
	w2 = pool_extent_reserve(&p, 1);
	ck_assert_uint_ne(w, POOL_NONE);
	ck_assert_int_eq(pool_nid(&p, w), 0);
	ck_assert_int_eq(pool_nid(&p, w2), 1);
	ck_assert_uint_eq(pool_alloc(&p, 0, POOL_NONE, w + 7), w + 7);
	ck_assert_uint_eq(pool_alloc(&p, 0, w + 8, w + 9), w + 8); /* the best first */
	ck_assert_uint_eq(pool_alloc(&p, 0, w + 8, w + 9), w + 9); /* best taken: second */
	f = pool_alloc(&p, 0, w + 8, w + 9); /* both taken: not in the extent */
	ck_assert_int_eq(pool_nid(&p, f), 0);
	must(f < w || f >= w + EXTENT_FRAMES);
	f = pool_alloc(&p, 1, w + 100, POOL_NONE); /* wish in the wrong zone */
	ck_assert_int_eq(pool_nid(&p, f), 1);
	pool_set_word(&p, w + 7, 1234);
	ck_assert_uint_eq(pool_word(&p, w + 7), 1234);
	ck_assert_uint_eq(pool_word(&p, w + 6), POOL_NONE);
	ck_assert_uint_eq(pool_word(&p, 0xfffffff0), POOL_NONE);
	ck_assert_int_eq(pool_check(&p), 0);
	/* An extent goes when it is empty and not reserved, whichever comes last. */
	pool_extent_release(&p, w);
	ck_assert_uint_eq(p.zone[0].nr_ext, 2);
	pool_free(&p, w + 7);
	pool_free(&p, w + 8);
	pool_free(&p, w + 9);
	ck_assert_uint_eq(p.zone[0].nr_ext, 1);
	pool_extent_release(&p, w2);
	ck_assert_int_eq(pool_check(&p), 0);
	pool_deinit(&p);
}
END_TEST

START_TEST(extents_run_out)
{
	struct pool p;

	ck_assert_int_eq(pool_init(&p, 1, 3 * EXTENT_FRAMES + 10), 0);
	for (int i = 0; i < 4; i++)
		ck_assert_uint_ne(pool_extent_reserve(&p, 0), POOL_NONE);
	ck_assert_uint_eq(pool_extent_reserve(&p, 0), POOL_NONE);
	/* Every extent is reserved: the pool then takes frames from one of them. */
	for (uint32_t i = 0; i < 3 * EXTENT_FRAMES + 10; i++)
		must(pool_alloc(&p, 0, POOL_NONE, POOL_NONE) != POOL_NONE);
	ck_assert_uint_eq(pool_alloc(&p, 0, POOL_NONE, POOL_NONE), POOL_NONE);
	ck_assert_int_eq(pool_check(&p), 0);
	pool_deinit(&p);
}
END_TEST

START_TEST(zone_end)
{
	struct pool p;

	ck_assert_int_eq(pool_init(&p, 2, 100), 0);
	for (int i = 0; i < 100; i++)
		ck_assert_uint_lt(pool_alloc(&p, 0, POOL_NONE, POOL_NONE), 100);
	ck_assert_uint_eq(pool_alloc(&p, 0, POOL_NONE, POOL_NONE), POOL_NONE); /* zone is full */
	for (uint32_t f = 100; f < 140; f += 2)
		ck_assert_uint_eq(pool_alloc(&p, 1, f, POOL_NONE), f);
	pool_free(&p, 5);
	ck_assert_uint_eq(pool_alloc(&p, 0, POOL_NONE, POOL_NONE), 5);
	ck_assert_int_eq(pool_check(&p), 0);
	pool_deinit(&p);
}
END_TEST

START_TEST(random_alloc_free)
{
	enum { N = 70000 };
	static bool used[N];
	uint64_t rng = fake_seed();
	uint32_t f, nr = 0;
	struct pool p;

	ck_assert_int_eq(pool_init(&p, 2, N / 2), 0);
	for (int step = 0; step < 200000; step++) {
		f = (uint32_t)(fake_rand(&rng) % N);
		if (used[f]) {
			pool_free(&p, f);
			used[f] = false;
			nr--;
		} else {
			f = pool_alloc(&p, pool_nid(&p, f), fake_rand(&rng) & 1 ? f : POOL_NONE, f);
			must(f < N);
			must(!used[f]);
			used[f] = true;
			nr++;
		}
		must(p.nr_used == nr);
		if (step % 1000 == 0)
			ck_assert_int_eq(pool_check(&p), 0);
	}
	for (f = 0; f < N; f++) {
		must(pool_is_used(&p, f) == used[f]);
		if (used[f])
			pool_free(&p, f);
	}
	ck_assert_int_eq(pool_check(&p), 0);
	ck_assert_uint_eq(p.zone[0].nr_ext + p.zone[1].nr_ext, 0);
	pool_deinit(&p);
}
END_TEST

START_TEST(words_and_free_frames)
{
	struct pool p;

	ck_assert_int_eq(pool_init(&p, 2, 100), 0);
	must(pool_is_free(&p, 1, 130) && !pool_is_free(&p, 0, 130));
	must(!pool_is_free(&p, 1, 200) && !pool_is_free(&p, 1, POOL_NONE));
	ck_assert_uint_eq(pool_alloc(&p, 1, 130, POOL_NONE), 130);
	must(!pool_is_free(&p, 1, 130) && pool_is_used(&p, 130) && !pool_is_used(&p, 30));
	/* A frame starts without a word, also when its last user left one. */
	ck_assert_uint_eq(pool_word(&p, 130), POOL_NONE);
	pool_set_word(&p, 130, 7);
	ck_assert_uint_eq(pool_word(&p, 130), 7);
	ck_assert_uint_eq(pool_alloc(&p, 1, 131, POOL_NONE), 131);
	pool_free(&p, 130);
	ck_assert_uint_eq(pool_word(&p, 130), POOL_NONE);
	ck_assert_uint_eq(pool_alloc(&p, 1, 130, POOL_NONE), 130);
	ck_assert_uint_eq(pool_word(&p, 130), POOL_NONE);
	pool_deinit(&p);
}
END_TEST

START_TEST(memory_is_counted)
{
	struct pool p;
	uint64_t empty, reserved;
	uint32_t first;

	ck_assert_int_eq(pool_init(&p, 2, EXTENT_FRAMES), 0);
	empty = pool_bytes(&p);
	first = pool_extent_reserve(&p, 1);
	ck_assert_uint_eq(first, EXTENT_FRAMES);
	reserved = pool_bytes(&p);
	ck_assert_uint_eq(reserved, empty + sizeof(struct extent));
	ck_assert_uint_eq(pool_alloc(&p, 1, first + 5, POOL_NONE), first + 5);
	ck_assert_uint_eq(pool_alloc(&p, 1, first + 6, POOL_NONE), first + 6);
	ck_assert_uint_eq(pool_bytes(&p), reserved + sizeof(struct pageblock));
	pool_free(&p, first + 5);
	pool_free(&p, first + 6);
	ck_assert_uint_eq(pool_bytes(&p), reserved);
	pool_extent_release(&p, first);
	ck_assert_uint_eq(pool_bytes(&p), empty);
	pool_deinit(&p);
}
END_TEST

Suite *suite_pool(void)
{
	Suite *s = suite_create("pool");
	TCase *tc = engine_case("pool");

	tcase_add_test(tc, bad_sizes);
	tcase_add_test(tc, wishes);
	tcase_add_test(tc, extents_run_out);
	tcase_add_test(tc, zone_end);
	tcase_add_test(tc, words_and_free_frames);
	tcase_add_test(tc, memory_is_counted);
	tcase_add_test(tc, random_alloc_free);
	suite_add_tcase(s, tc);
	return s;
}
