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

	ck_assert_int_eq(pool_init(&p, 0, 10, 0), -EINVAL);
	ck_assert_int_eq(pool_init(&p, 1, 0, 0), -EINVAL);
	ck_assert_int_eq(pool_init(&p, 1, 0xffffffff, 0), -EINVAL);
	ck_assert_int_eq(pool_init(&p, 64, 1u << 26, 0), -EINVAL);
	/* As many frames as have numbers. */
	ck_assert_int_eq(pool_init(&p, 1, 0xfffffffe, 0), 0);
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

	ck_assert_int_eq(pool_init(&p, 2, 4 * POOL_EXT_FRAMES, 0), 0);
	w = pool_window_get(&p, 0);
	w2 = pool_window_get(&p, 1);
	ck_assert_uint_ne(w, POOL_NONE);
	ck_assert_int_eq(pool_nid(&p, w), 0);
	ck_assert_int_eq(pool_nid(&p, w2), 1);
	ck_assert_uint_eq(pool_alloc(&p, 0, POOL_NONE, w + 7), w + 7);
	ck_assert_uint_eq(pool_alloc(&p, 0, w + 8, w + 9), w + 8); /* wish before window */
	ck_assert_uint_eq(pool_alloc(&p, 0, w + 8, w + 9), w + 9); /* wish taken: window */
	f = pool_alloc(&p, 0, w + 8, w + 9); /* both taken: elsewhere, not in the window */
	ck_assert_int_eq(pool_nid(&p, f), 0);
	must(f < w || f >= w + POOL_EXT_FRAMES);
	f = pool_alloc(&p, 1, w + 100, POOL_NONE); /* wish in the wrong zone */
	ck_assert_int_eq(pool_nid(&p, f), 1);
	pool_set_node(&p, w + 7, 1234);
	ck_assert_uint_eq(pool_node(&p, w + 7), 1234);
	ck_assert_uint_eq(pool_node(&p, w + 6), POOL_NONE);
	ck_assert_uint_eq(pool_node(&p, 0xfffffff0), POOL_NONE);
	ck_assert_int_eq(pool_check(&p), 0);
	/* A window goes back when it is empty and not owned, whichever comes last. */
	pool_window_put(&p, w);
	ck_assert_uint_eq(p.zone[0].nr_ext, 2);
	pool_free(&p, w + 7);
	pool_free(&p, w + 8);
	pool_free(&p, w + 9);
	ck_assert_uint_eq(p.zone[0].nr_ext, 1);
	pool_window_put(&p, w2);
	ck_assert_int_eq(pool_check(&p), 0);
	pool_deinit(&p);
}
END_TEST

START_TEST(windows_run_out)
{
	struct pool p;
	uint32_t i;

	ck_assert_int_eq(pool_init(&p, 1, 3 * POOL_EXT_FRAMES + 10, 0), 0);
	for (i = 0; i < 4; i++)
		ck_assert_uint_ne(pool_window_get(&p, 0), POOL_NONE);
	ck_assert_uint_eq(pool_window_get(&p, 0), POOL_NONE);
	/* Every extent is a window: the pool then takes frames from one of them. */
	for (i = 0; i < 3 * POOL_EXT_FRAMES + 10; i++)
		must(pool_alloc(&p, 0, POOL_NONE, POOL_NONE) != POOL_NONE);
	ck_assert_uint_eq(pool_alloc(&p, 0, POOL_NONE, POOL_NONE), POOL_NONE);
	ck_assert_int_eq(pool_check(&p), 0);
	pool_deinit(&p);
}
END_TEST

START_TEST(limit_and_zone_end)
{
	struct pool p;
	uint32_t i, f;

	ck_assert_int_eq(pool_init(&p, 2, 100, 120), 0);
	for (i = 0; i < 100; i++)
		ck_assert_uint_lt(pool_alloc(&p, 0, POOL_NONE, POOL_NONE), 100);
	ck_assert_uint_eq(pool_alloc(&p, 0, POOL_NONE, POOL_NONE), POOL_NONE); /* zone is full */
	for (i = 0; i < 20; i++) {
		f = pool_alloc(&p, 1, 100 + i * 2, POOL_NONE);
		ck_assert_uint_eq(f, 100 + i * 2);
	}
	ck_assert_uint_eq(pool_alloc(&p, 1, POOL_NONE, POOL_NONE), POOL_NONE); /* limit */
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
	int step;

	ck_assert_int_eq(pool_init(&p, 2, N / 2, 0), 0);
	for (step = 0; step < 200000; step++) {
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

Suite *suite_pool(void)
{
	Suite *s = suite_create("pool");
	TCase *tc = engine_case("pool");

	tcase_add_test(tc, bad_sizes);
	tcase_add_test(tc, wishes);
	tcase_add_test(tc, windows_run_out);
	tcase_add_test(tc, limit_and_zone_end);
	tcase_add_test(tc, random_alloc_free);
	suite_add_tcase(s, tc);
	return s;
}
