/* SPDX-License-Identifier: MIT */
/*
 * test_claim.c - ranges that are emptied and kept: in the pool, and in an engine whose clients
 * stand there. fake_check() holds every byte and every count after each step.
 */
#include <errno.h>
#include <string.h>

#include "engine/core.h"
#include "engine/settle.h"
#include "pool/claim.h"
#include "pool/range.h"
#include "fake.h"
#include "suites.h"

#define B PAGEBLOCK_FRAMES

/* --- the pool --- */

static struct pool_culprit who;

static void pool_of(struct pool *p, uint32_t blocks, bool guard)
{
	struct pool_config cfg = { .nr_zones = 2,
				   .zone_frames = blocks * B + 100,
				   .max_frames = 3 * B,
				   .nr_caches = 1,
				   .guard = guard };

	ck_assert_int_eq(pool_init(p, &cfg), 0);
}

static int take(struct pool *p, uint32_t start, uint32_t end)
{
	int err = range_isolate(p, start, end, &who);

	if (!err) {
		err = claim_take(p, start, end, &who);
		range_undo_isolate(p, start, end);
	}
	ck_assert_int_eq(pool_check(p), 0);
	return err;
}

static int give(struct pool *p, uint32_t start, uint32_t end)
{
	int err = claim_give(p, start, end, &who);

	ck_assert_int_eq(pool_check(p), 0);
	return err;
}

static uint64_t nr_claimed(struct pool *p, uint64_t used)
{
	struct pool_counts c;

	pool_counts(p, 0, &c);
	ck_assert_uint_eq(c.used, used + c.claimed);
	ck_assert_uint_eq(c.isolated, 0);
	return c.claimed;
}

/* Claimed frames are used, cannot move, and are given back by their owner only. */
START_TEST(taken_and_given)
{
	uint32_t f, nr;
	struct pool p;

	pool_of(&p, 6, _i);
	f = pool_alloc(&p, POOL_NO_CACHE, 0, B + 3, POOL_NONE);
	ck_assert_uint_eq(f, B + 3);
	ck_assert_int_eq(claim_take(&p, B + 10, B + 20, &who), -EBUSY); /* not isolated */
	ck_assert_uint_eq(who.frame, B + 10);
	ck_assert_int_eq(take(&p, B, B + 20), -EBUSY);
	ck_assert_uint_eq(who.frame, B + 3);
	ck_assert_uint_eq(nr_claimed(&p, 1), 0);
	ck_assert_int_eq(take(&p, B + 5, 2 * B + 7), 0); /* the second pageblock was absent */
	ck_assert_uint_eq(nr_claimed(&p, 1), B + 2);
	ck_assert_int_eq(take(&p, 2 * B + 6, 2 * B + 8), -EBUSY);
	ck_assert_uint_eq(who.frame, 2 * B + 6);
	ck_assert_str_eq(who.why, "cannot move");
	ck_assert_int_eq(take(&p, 2 * B + 7, 2 * B + 8), 0); /* right beside it */
	ck_assert_uint_eq(claim_next(&p, 0, 6 * B, &nr), B + 5);
	ck_assert_uint_eq(nr, B + 3);
	ck_assert_uint_eq(claim_next(&p, 2 * B + 8, 6 * B, &nr), POOL_NONE);
	ck_assert_int_eq(give(&p, B + 3, B + 6),
			 -EINVAL); /* the first was allocated, not claimed */
	ck_assert_uint_eq(who.frame, B + 3);
	ck_assert_int_eq(give(&p, 2 * B, 2 * B + 9), -EINVAL);
	ck_assert_int_eq(give(&p, 2 * B, 3 * B), -EINVAL);
	ck_assert_int_eq(give(&p, 4 * B, 5 * B), -EINVAL); /* absent */
	ck_assert_int_eq(give(&p, 6 * B, 6 * B + 101), -EINVAL);
	ck_assert_uint_eq(nr_claimed(&p, 1), B + 3);
	ck_assert_int_eq(give(&p, B + 6, 2 * B + 8), 0);
	ck_assert_uint_eq(nr_claimed(&p, 1), 1);
	ck_assert_int_eq(give(&p, B + 5, B + 6), 0);
	ck_assert_int_eq(give(&p, B + 5, B + 6), -EINVAL);
	pool_free(&p, POOL_NO_CACHE, f, 1, false);
	ck_assert_uint_eq(nr_claimed(&p, 0), 0);
	pool_deinit(&p);
}
END_TEST

/* The limit is one on memory, and ranges have none. */
START_TEST(limit_is_on_memory)
{
	struct pool p;

	pool_of(&p, 8, false);
	for (uint32_t i = 0; i < 3 * B; i++)
		ck_assert_uint_ne(pool_alloc(&p, POOL_NO_CACHE, 0, POOL_NONE, POOL_NONE),
				  POOL_NONE);
	ck_assert_uint_eq(pool_alloc(&p, POOL_NO_CACHE, 0, POOL_NONE, POOL_NONE), POOL_NONE);
	ck_assert_int_eq(take(&p, 4 * B, 6 * B), 0);
	ck_assert_int_eq(give(&p, 4 * B, 6 * B), 0);
	ck_assert_uint_eq(pool_alloc(&p, POOL_NO_CACHE, 0, POOL_NONE, POOL_NONE), POOL_NONE);
	pool_deinit(&p);
}
END_TEST

static uint32_t place(struct pool *p, struct claim_search *s)
{
	return claim_place(p, 0, s);
}

/* First the reserve, then where no window is, then anywhere; and not where something stays. */
START_TEST(places)
{
	struct claim_search s = { .nr = B, .align = B }, t = { .nr = 64, .align = 64 };
	struct pool p;
	uint32_t f;

	pool_of(&p, 6, false);
	ck_assert_int_eq(pool_reserve(&p, 4 * B, 2, &who), 0);
	ck_assert_uint_eq(pool_window_reserve(&p, 0, B, 0), B);
	ck_assert_int_eq(range_isolate(&p, 0, 1, &who), 0);
	ck_assert_uint_eq(place(&p, &s), 4 * B);
	ck_assert_uint_eq(place(&p, &s), 5 * B);
	for (f = 2; f < 6; f++)
		ck_assert_uint_eq(place(&p, &s), f * B);
	for (f = 1; f < 6; f++)
		ck_assert_uint_eq(place(&p, &s), f * B);
	ck_assert_uint_eq(place(&p, &s), POOL_NONE);
	ck_assert_uint_eq(place(&p, &s), POOL_NONE);
	/* Claimed frames are passed by, their pageblock is not. */
	ck_assert_int_eq(take(&p, 4 * B + 70, 4 * B + 140), 0);
	ck_assert_uint_eq(place(&p, &t), 4 * B);
	ck_assert_uint_eq(place(&p, &t), 4 * B + 192);
	s = (struct claim_search){ .nr = 2 * B, .align = 1 };
	ck_assert_uint_eq(place(&p, &s), 2 * B); /* in no reserve, and before what is claimed */
	s = (struct claim_search){ .nr = 7 * B, .align = 1 };
	ck_assert_uint_eq(place(&p, &s), POOL_NONE);
	/* The other zone has numbers of its own, which are aligned as such. */
	s = (struct claim_search){ .nr = 4, .align = 256 };
	f = claim_place(&p, 1, &s);
	ck_assert_uint_eq(f % 256, 0);
	ck_assert_uint_ge(f, 6 * B + 100);
	pool_deinit(&p);
}
END_TEST

/* In a large folio: it stays whole until the range has come back, too. */
START_TEST(in_a_folio)
{
	struct pool_counts c;
	struct pool p;
	uint32_t f;

	pool_of(&p, 4, false);
	f = pool_alloc(&p, POOL_NO_CACHE, 0, B, POOL_NONE);
	ck_assert_int_eq(take(&p, B + 8, B + 16), 0);
	ck_assert_int_eq(pool_set_large(&p, B), 0);
	pool_free(&p, POOL_NO_CACHE, f, 1, true);
	ck_assert_int_eq(pool_check(&p), 0);
	pool_counts(&p, 0, &c);
	ck_assert_uint_eq(c.retired, B - 8);
	ck_assert_int_eq(give(&p, B + 8, B + 16), 0);
	pool_counts(&p, 0, &c);
	ck_assert_uint_eq(c.retired, 0);
	ck_assert_uint_eq(p.nr_held, 0);
	pool_deinit(&p);
}
END_TEST

/* --- the engine --- */

enum { ZONE = 4096, NR = FAKE_CROWD_PAGES };

static struct engine_drained out;

static int claim(struct fake *w, uint32_t first, uint32_t end)
{
	return engine_claim(w->e, (int)(first / ZONE),
			    &(struct engine_claim){ .first = first, .end = end }, &out);
}

static int claim_any(struct fake *w, uint32_t nr, uint32_t align)
{
	return engine_claim(w->e, 0, &(struct engine_claim){ .nr = nr, .align = align }, &out);
}

/* Carry it on; agents answer if the test says so. Returns how it ended. */
static int carry_on(struct fake *w, bool answers)
{
	uint64_t start = w->now_ms;

	while (fake_drain_step(w)) {
		fake_check(w);
		if (answers)
			fake_answer_all(w);
		engine_epoch_free(w->e, engine_epoch(w->e));
		fake_check(w);
		w->now_ms += 5;
		ck_assert_uint_lt(w->now_ms - start, 121000); /* promised: 120 s for all places */
	}
	fake_check(w);
	return w->drained.err;
}

static bool has_site(const struct fake *w, uint32_t first, uint32_t end)
{
	for (int c = 0; c < w->nr_clients; c++)
		for (uint32_t i = 0; i < NR; i++)
			if (fake_frame(w->client[c], i) >= first &&
			    fake_frame(w->client[c], i) < end)
				return true;
	return false;
}

/* In the middle of a run of frames that pages stand on: these go, the others stay. */
START_TEST(part_of_a_pageblock)
{
	struct fake *w = fake_crowd(1, ZONE, 3);
	uint32_t first = fake_frame(w->client[0], 10), left = fake_frame(w->client[0], 9), nr;

	ck_assert_int_eq(claim(w, first, first + 5), 0);
	ck_assert_int_eq(claim(w, first, first + 5), -EALREADY);
	ck_assert_int_eq(carry_on(w, true), 0);
	ck_assert_uint_eq(w->drained.first, first);
	ck_assert_uint_eq(w->drained.end, first + 5);
	ck_assert(!has_site(w, first, first + 5));
	ck_assert_uint_eq(fake_frame(w->client[0], 9), left);
	ck_assert_uint_eq(engine_next_claimed(w->e, 0, 0, &nr), first);
	ck_assert_uint_eq(nr, 5);
	/* Nothing comes there, and it is in nobody's way but of who wants it. */
	fake_fill_unique(fake_client(w, FAKE_CROWD_BASE + 0x20000000, 2 * B), 0, 2 * B, 1 << 20);
	fake_fill_unique(fake_client(w, FAKE_CROWD_BASE + 0x30000000, 2 * B), 0, 2 * B, 1 << 20);
	fake_passes(w, 3);
	ck_assert(!has_site(w, first, first + 5));
	ck_assert_int_eq(claim(w, first + 4, first + 6), -EBUSY);
	ck_assert_uint_eq(out.culprit.frame, first + 4);
	ck_assert_str_eq(out.why, "cannot move");
	ck_assert_int_eq(engine_compact(w->e, 0, COMPACT_ALL), 0);
	while (fake_compact_step(w) + fake_migrate_step(w)) {
		fake_answer_all(w);
		engine_epoch_free(w->e, engine_epoch(w->e));
		fake_check(w);
		w->now_ms += 5;
	}
	ck_assert_int_eq(engine_unclaim(w->e, 0, first, first + 6), -EINVAL);
	ck_assert_int_eq(engine_unclaim(w->e, 0, first, first + 5), 0);
	ck_assert_uint_eq(engine_next_claimed(w->e, 0, 0, &nr), POOL_NONE);
	fake_check(w);
	fake_free(w);
}
END_TEST

/*
 * A place that cannot be emptied is given up for the next one. Without an answer from anybody that
 * is one without pages, as long as there is one.
 */
START_TEST(another_place)
{
	struct fake *w = fake_crowd(1, ZONE, 2);
	uint32_t stood = fake_frame(w->client[0], 0) / B;
	int had = 0;

	ck_assert_int_eq(claim_any(w, ZONE, 1), 0);
	ck_assert_int_eq(carry_on(w, false), -ENOMEM);
	/* Two pageblocks hold pages: the crowd's, and the one that they were to go to. */
	for (int i = 0; i < 6; i++) {
		ck_assert_int_eq(claim_any(w, B, B), 0);
		ck_assert_int_eq(carry_on(w, false), 0);
		ck_assert_uint_ne(w->drained.first / B, stood);
		ck_assert_uint_eq(w->drained.end, w->drained.first + B);
	}
	ck_assert_int_eq(claim_any(w, B, B), 0);
	ck_assert_int_eq(carry_on(w, false), -EBUSY);
	fake_answer_all(w);
	ck_assert_int_eq(claim_any(w, B, B), 0);
	ck_assert_int_eq(carry_on(w, true), 0);
	for (uint32_t b = 0; b < ZONE / B; b++)
		had += !engine_unclaim(w->e, 0, b * B, (b + 1) * B);
	ck_assert_int_eq(had, 7);
	ck_assert_int_eq(claim_any(w, ZONE, 1), 0);
	engine_drain_end(w->e, 0);
	ck_assert_int_eq(carry_on(w, true), -ECANCELED);
	fake_free(w);
}
END_TEST

START_TEST(bad_input)
{
	struct fake *w = fake_crowd(2, ZONE, 2);

	ck_assert_int_eq(claim(w, 5, 5), -EINVAL);
	ck_assert_int_eq(claim(w, 6, 5), -EINVAL);
	ck_assert_int_eq(claim(w, ZONE - 1, ZONE + 1), -EINVAL);
	ck_assert_int_eq(claim(w, 2 * ZONE, 2 * ZONE + 1), -EINVAL);
	ck_assert_int_eq(claim_any(w, ZONE + 1, 1), -EINVAL);
	ck_assert_int_eq(claim_any(w, UINT32_MAX, 1), -EINVAL);
	ck_assert_int_eq(claim_any(w, 4, 0), -EINVAL);
	ck_assert_int_eq(claim_any(w, 4, 3), -EINVAL);
	ck_assert_int_eq(engine_unclaim(w->e, 0, 5, 5), -EINVAL);
	ck_assert_int_eq(engine_unclaim(w->e, 0, 0, 1), -EINVAL);
	ck_assert_int_eq(engine_unclaim(w->e, 7, 0, 1), -EINVAL);
	ck_assert_int_eq(engine_migrate(w->e, 0, 1), 0);
	ck_assert_int_eq(claim_any(w, 4, 1), -EALREADY);
	fake_migrate(w);
	fake_check(w);
	fake_free(w);
}
END_TEST

Suite *suite_claim(void)
{
	Suite *s = suite_create("claim");
	TCase *tc = engine_case("claim");

	tcase_add_loop_test(tc, taken_and_given, 0, 2);
	tcase_add_test(tc, limit_is_on_memory);
	tcase_add_test(tc, places);
	tcase_add_test(tc, in_a_folio);
	tcase_add_test(tc, part_of_a_pageblock);
	tcase_add_test(tc, another_place);
	tcase_add_test(tc, bad_input);
	suite_add_tcase(s, tc);
	return s;
}
