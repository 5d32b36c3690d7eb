/* SPDX-License-Identifier: MIT */
/*
 * test_hold.c - merging is held back for a while, or by a limit of the debt: what is read, bound
 * and sent meanwhile, and what becomes of it afterwards.
 */
#include "fake.h"
#include "suites.h"

#include <errno.h>

enum { ZONE = 4096, NR = 200 };
#define BASE 0x7f0000000000ull

static struct fake_client *client(struct fake *w, int i)
{
	struct fake_client *c = fake_client(w, BASE + (uint64_t)i * 0x10000000, NR);

	fake_fill_unique(c, 0, NR, 1000);
	return c;
}

static void expect(struct fake *w, uint64_t shared, uint64_t sharing)
{
	struct engine_counters n = fake_counters(w);

	ck_assert_uint_eq(n.pages_shared, shared);
	ck_assert_uint_eq(n.pages_sharing, sharing);
}

/* All sites of a client, which why.c counts one by one. */
static uint64_t why(struct fake_client *c, enum engine_why what)
{
	struct engine_range v[8];
	uint64_t next = 0, sum = 0;

	do {
		int nr = engine_why(c->mm, next, v, 8, &next);

		for (int i = 0; i < nr; i++)
			sum += v[i].pages[what];
	} while (next != KSM_ADDR_END);
	return sum;
}

START_TEST(nothing_is_read)
{
	struct fake *w = fake_new(1, ZONE, 0);
	struct fake_client *a, *b;

	engine_hold(w->e, true);
	ck_assert_int_eq(engine_rest(w->e), WHY_HELD);
	a = client(w, 0);
	b = client(w, 1);
	fake_passes(w, 3);
	expect(w, 0, 0);
	ck_assert_uint_eq(w->reads, 0);
	engine_hold(w->e, false);
	ck_assert_int_eq(engine_rest(w->e), WHY_NR);
	fake_passes(w, 2);
	expect(w, NR, NR);
	engine_hold(w->e, true);
	fake_passes(w, 3);
	expect(w, NR, NR); /* what is merged stays merged */
	/* What is written is seen: frames without a page go. Nothing takes their place. */
	w->reads = 0;
	fake_fill(a, 0, 50, 7);
	fake_fill(b, 0, 50, 7);
	fake_passes(w, 3);
	expect(w, NR - 50, NR - 50);
	ck_assert_uint_eq(w->reads, 0);
	ck_assert_uint_eq(why(a, WHY_MERGED), NR - 50);
	engine_hold(w->e, false);
	fake_passes(w, 3);
	expect(w, NR - 50 + 1, NR - 50 + 99);
	fake_free(w);
}
END_TEST

/* Orders that were not sent are taken back, and given again. Those under way are answered. */
START_TEST(orders_that_wait)
{
	struct fake *w = fake_new(1, ZONE, 0);
	struct fake_client *a = client(w, 0);

	client(w, 1);
	fake_scan(w);
	ck_assert_uint_gt(engine_nr_orders(w->e), 0);
	engine_hold(w->e, true);
	ck_assert_uint_eq(engine_nr_orders(w->e), 0);
	ck_assert_uint_eq(why(a, WHY_HELD), NR);
	fake_passes(w, 3);
	expect(w, 0, 0);
	ck_assert_uint_eq(fake_counters(w).frames_used, 0); /* they would hold memory for nothing */
	engine_hold(w->e, false);
	fake_scan(w);
	fake_scan(w);
	engine_flush(w->e, ENGINE_FLUSH_ALL);
	ck_assert_uint_gt(a->nr_orders, 0);
	engine_hold(w->e, true);
	fake_orders(w);
	expect(w, NR, NR);
	fake_free(w);
}
END_TEST

/* Sites go on being moved, because that frees memory and adds none. */
START_TEST(moves_go_on)
{
	struct fake *w = fake_new(2, ZONE, 0);

	fake_set(w, KNOB_MERGE_ACROSS_NODES, 0);
	w->move_fails = -EPERM; /* so pages are re-pointed, by orders */
	client(w, 0);
	client(w, 1);
	fake_passes(w, 2);
	expect(w, NR, NR);
	ck_assert_int_eq(engine_migrate(w->e, 0, 1), 0);
	engine_hold(w->e, true);
	fake_migrate(w);
	ck_assert_uint_eq(w->migrated.frames, NR);
	expect(w, NR, NR);
	fake_free(w);
}
END_TEST

static uint64_t debt(struct fake *w)
{
	return fake_counters(w).pages_indebted;
}

/*
 * The limit is exact, nothing more is read once it is reached, and when there is room again the
 * rest is merged. Seen to fail without allow_debt() in match_hashes().
 */
START_TEST(debt_has_a_limit)
{
	struct fake *w = fake_new(1, ZONE, 0);
	struct fake_client *a = client(w, 0), *b = client(w, 1);

	w->max_debt = 101;
	fake_passes(w, 4);
	ck_assert_uint_eq(debt(w), 100); /* pairs */
	ck_assert_int_eq(engine_rest(w->e), WHY_DEBT);
	ck_assert_uint_eq(fake_counters(w).nr_indebted, 1);
	w->reads = 0;
	for (int i = 0; i < 5; i++) {
		fake_tick(w, 1000);
		fake_passes(w, 1);
	}
	ck_assert_uint_eq(w->reads, 0);
	ck_assert_uint_eq(debt(w), 100);
	ck_assert_uint_eq(why(a, WHY_UNIQUE), NR - 50);
	ck_assert_uint_eq(why(b, WHY_DEBT), NR - 50);
	/* Some are written: as many others take their place. */
	for (uint32_t i = 0; i < NR; i++)
		if (fake_frame(a, i) != FAKE_NO_FRAME && i % 2)
			fake_store(a, i, 5000 + i);
	for (int i = 0; i < 5; i++) {
		fake_tick(w, 1000);
		fake_passes(w, 1);
		ck_assert_uint_le(debt(w), 101);
	}
	ck_assert_uint_ge(debt(w), 99);
	w->max_debt = 0;
	fake_tick(w, 1000);
	ck_assert_int_eq(engine_rest(w->e), WHY_NR);
	fake_passes(w, 3);
	ck_assert_uint_ge(debt(w), 2 * NR - 50);
	fake_free(w);
}
END_TEST

/* Zeros that were given back would need memory, too. */
START_TEST(zeros_are_debts)
{
	struct fake *w = fake_new(1, ZONE, 0);
	struct fake_client *a = fake_client(w, BASE, NR);

	fake_set(w, KNOB_USE_ZERO_PAGES, 1);
	fake_fill(a, 0, NR, FAKE_ZERO_TAG);
	w->max_debt = 64;
	fake_passes(w, 3);
	ck_assert_uint_le(debt(w), 64);
	ck_assert_uint_ge(fake_counters(w).zero_pages, 62);
	w->max_debt = 0;
	fake_tick(w, 1000);
	fake_passes(w, 3);
	ck_assert_uint_eq(fake_counters(w).zero_pages, NR);
	fake_free(w);
}
END_TEST

/*
 * A full frame loses a site while nothing may be merged. The page that waits for the place gets it
 * afterwards. Seen to fail when refill() leaves it in the unstable tree.
 */
START_TEST(place_of_a_full_frame)
{
	struct fake *w = fake_new(1, ZONE, 0);
	struct fake_client *a = fake_client(w, BASE, 4);

	fake_set(w, KNOB_MAX_PAGE_SHARING, 3);
	fake_fill(a, 0, 4, 9);
	fake_passes(w, 3);
	expect(w, 1, 2);
	engine_hold(w->e, true);
	for (uint32_t i = 0; i < 4; i++)
		if (fake_frame(a, i) != FAKE_NO_FRAME) {
			fake_store(a, i, 77);
			break;
		}
	fake_passes(w, 2);
	expect(w, 1, 1);
	engine_hold(w->e, false);
	fake_passes(w, 2);
	expect(w, 1, 2);
	fake_free(w);
}
END_TEST

/* Pages that wait for others of their contents are looked at again. */
START_TEST(crowds_wait)
{
	struct fake *w = fake_new(1, ZONE, 0);

	fake_set(w, KNOB_MERGE_DELAY_MILLISECS, 100);
	client(w, 0);
	client(w, 1);
	fake_tick(w, 1);
	fake_passes(w, 2);
	expect(w, 0, 0);
	engine_hold(w->e, true);
	fake_tick(w, 1000);
	fake_passes(w, 2);
	expect(w, 0, 0);
	engine_hold(w->e, false);
	w->max_debt = 100;
	for (int i = 0; i < 4; i++) {
		fake_tick(w, 1000);
		fake_passes(w, 2);
		ck_assert_uint_le(debt(w), 100);
	}
	w->max_debt = 0;
	for (int i = 0; i < 4; i++) {
		fake_tick(w, 1000);
		fake_passes(w, 2);
	}
	expect(w, NR, NR);
	fake_free(w);
}
END_TEST

Suite *suite_hold(void)
{
	Suite *s = suite_create("hold");
	TCase *tc = engine_case("hold");

	tcase_add_test(tc, nothing_is_read);
	tcase_add_test(tc, orders_that_wait);
	tcase_add_test(tc, moves_go_on);
	tcase_add_test(tc, debt_has_a_limit);
	tcase_add_test(tc, zeros_are_debts);
	tcase_add_test(tc, place_of_a_full_frame);
	tcase_add_test(tc, crowds_wait);
	suite_add_tcase(s, tc);
	return s;
}
