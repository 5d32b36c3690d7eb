/* SPDX-License-Identifier: MIT */
/*
 * test_follow.c - pages that are taken for equal because their neighbours are.
 *
 * pages_scanned shows that this saves reading. The fake's check of every byte, and the state in
 * which pages end, show that a wrong guess costs one order and nothing else.
 */
#include "engine/core.h"
#include "fake.h"
#include "suites.h"

#define BASE 0x7f0000000000ull
#define NR 1024u
#define FAR 40000u   /* further than one call goes */
#define STRETCH 512u /* pages that a call of change tracking takes in new memory */

static uint64_t scanned(struct fake *w)
{
	return fake_counters(w).total.pages_scanned;
}

/* Two clients, merged. */
static struct fake *two_merged(void)
{
	struct fake *w = fake_new(1, 65536, 0);

	for (int i = 0; i < 2; i++)
		fake_fill_unique(fake_client(w, BASE, NR), 0, NR, 1);
	fake_passes(w, 3);
	ck_assert_uint_eq(fake_counters(w).pages_sharing, NR);
	return w;
}

/* Seen to fail with bind_unread() binding nothing: all 1024 are read. */
START_TEST(the_third_is_hardly_read)
{
	struct fake *w = two_merged();
	struct fake_client *c = fake_client(w, BASE, NR);
	uint64_t before = scanned(w);

	fake_fill_unique(c, 0, NR, 1);
	fake_pass(w);
	ck_assert_uint_eq(fake_counters(w).pages_sharing, 2 * NR);
	ck_assert_uint_le(scanned(w) - before, BLOCK_PAGES + FOLLOW_SAMPLES * NR / BLOCK_PAGES);
	fake_check(w);
	fake_free(w);
}
END_TEST

START_TEST(wrong_guesses_are_found_out)
{
	static const uint32_t differ[] = { 70, 100, 101, 777, 1000 };
	struct fake *w = two_merged();
	struct fake_client *c = fake_client(w, BASE, NR);
	unsigned int i, nr = sizeof(differ) / sizeof(differ[0]);

	fake_fill_unique(c, 0, NR, 1);
	for (i = 0; i < nr; i++)
		fake_store(c, differ[i], 1000000 + i);
	fake_pass(w);
	fake_check(w);
	ck_assert_uint_eq(fake_counters(w).total.order_pages_failed,
			  nr); /* they were guessed about */
	fake_passes(w, 3);
	ck_assert_uint_eq(fake_counters(w).pages_sharing, 2 * NR - nr);
	ck_assert_uint_eq(fake_counters(w).pages_unshared, nr); /* hashed at last, and calm */
	ck_assert_uint_eq(fake_counters(w).total.order_pages_failed, nr);
	fake_check(w);
	fake_free(w);
}
END_TEST

/*
 * One page in five differs, so that the samples of every second run agree. Seen to fail with
 * allowed() always true: 640 pages are ordered in vain.
 */
START_TEST(who_misleads_is_not_followed)
{
	const uint32_t nr = 8192;
	struct fake *w = fake_new(1, 65536, 0);
	struct fake_client *c;
	uint64_t rng = fake_seed();
	uint32_t i, equal = nr;

	for (i = 0; i < 2; i++)
		fake_fill_unique(fake_client(w, BASE, nr), 0, nr, 1);
	fake_passes(w, 3);
	c = fake_client(w, BASE, nr);
	fake_fill_unique(c, 0, nr, 1);
	for (i = 0; i < nr; i++)
		if (fake_rand(&rng) % 5 == 0) {
			fake_store(c, i, 1000000 + i);
			equal--;
		}
	for (i = 0; i < 2 * nr / STRETCH; i++) {
		int64_t budget = 1;

		engine_scan(w->e, 0, &budget); /* a stretch; and outcomes come while it goes on */
		fake_orders(w);
	}
	fake_check(w);
	fake_passes(w, 4);
	ck_assert_uint_le(fake_counters(w).total.order_pages_failed, 400);
	ck_assert_uint_eq(fake_counters(w).pages_sharing, nr + equal);
	ck_assert_uint_eq(fake_counters(w).pages_volatile, 0);
	fake_free(w);
}
END_TEST

/* While the first worker reads the start of the first client, the second is at the other. */
static void scan_second(struct fake_client *c)
{
	int64_t budget = 1;

	engine_scan(c->w->e, 1, &budget);
}

static struct fake *two_new(void)
{
	struct fake *w = fake_new(1, 65536, 0);

	for (int i = 0; i < 2; i++)
		fake_fill_unique(fake_client(w, BASE, NR), 0, NR, 1);
	w->in_read = scan_second;
	return w;
}

/* Both pages of a pair are read, by whichever worker comes first, and neither is read twice. */
START_TEST(pairs_are_read_on_both_sides)
{
	struct fake *w = two_new();

	fake_pass(w);
	ck_assert_uint_eq(scanned(w), 2 * NR);
	ck_assert_uint_eq(fake_counters(w).pages_sharing, NR);
	fake_check(w);
	fake_free(w);
}
END_TEST

/*
 * Every eighth page of the second stretch exists once. No frame is made for it, and no order goes
 * out that names one. Seen to fail (pages are ordered in vain) when compare_pal() takes all pages
 * of a run for equal because its samples are.
 */
START_TEST(one_off_pages_get_no_frame)
{
	struct fake *w = two_new();
	uint32_t nr = 0;

	for (uint32_t i = STRETCH + 3; i < NR; i += 8, nr++)
		for (int k = 0; k < 2; k++)
			fake_store(w->client[k], i, 1000000 + 2 * i + (uint64_t)k);
	fake_pass(w);
	ck_assert_uint_eq(fake_counters(w).pages_sharing, NR - nr);
	ck_assert_uint_eq(fake_counters(w).frames_used, NR - nr);
	ck_assert_uint_eq(fake_counters(w).total.order_pages_failed, 0);
	fake_passes(w, 3);
	ck_assert_uint_eq(fake_counters(w).pages_unshared, 2 * nr);
	ck_assert_uint_eq(fake_counters(w).frames_used, NR - nr);
	ck_assert_uint_eq(fake_counters(w).total.order_pages_failed, 0);
	fake_check(w);
	fake_free(w);
}
END_TEST

/* A client of which all pages are zero, but for every `step`th (0: for none). */
static struct fake_client *zeros(struct fake *w, uint32_t nr, uint32_t step)
{
	struct fake_client *c = fake_client(w, BASE, nr);

	fake_set(w, KNOB_USE_ZERO_PAGES, 1);
	for (uint32_t i = 0; i < nr; i++)
		fake_store(c, i, step && i % step == 0 ? 1000000 + i : 0);
	return c;
}

/*
 * Seen to fail (all pages are read) with zeros_may_follow() always false. With trees of its own for
 * each node it holds as well, since zeros are on none.
 */
START_TEST(zeros_follow_zeros)
{
	struct fake *w = fake_new(_i ? 2 : 1, 65536, 0);

	fake_set(w, KNOB_MERGE_ACROSS_NODES, !_i);
	zeros(w, NR, 0);
	fake_pass(w);
	ck_assert_uint_eq(fake_counters(w).zero_pages, NR);
	ck_assert_uint_le(scanned(w), BLOCK_PAGES + FOLLOW_SAMPLES * NR / BLOCK_PAGES);
	ck_assert_uint_eq(fake_counters(w).total.order_pages_failed, 0);
	fake_check(w);
	fake_free(w);
}
END_TEST

/* No page is lost among zeros, and the knob says whether there are any. */
START_TEST(what_is_not_zero_stays)
{
	struct fake *w = fake_new(1, 65536, 0);
	struct fake_client *c = zeros(w, NR, 100);
	uint32_t nr = (NR + 99) / 100;

	fake_pass(w);
	fake_check(w);
	fake_passes(w, 3);
	ck_assert_uint_eq(fake_counters(w).zero_pages, NR - nr);
	ck_assert_uint_eq(fake_counters(w).pages_unshared, nr);
	ck_assert_uint_le(fake_counters(w).total.order_pages_failed, nr);
	fake_set(w, KNOB_USE_ZERO_PAGES, 0);
	for (uint32_t i = 0; i < NR; i++)
		fake_store(c, i, 0);
	fake_passes(w, 20);
	ck_assert_uint_eq(fake_counters(w).zero_pages, 0);
	ck_assert_uint_eq(fake_counters(w).pages_sharing + fake_counters(w).pages_shared, NR);
	fake_check(w);
	fake_free(w);
}
END_TEST

/*
 * Zeros at random mislead guesses about zeros, and not those about frames. Seen to fail with one
 * score for both: the pages that come at last are all read.
 */
START_TEST(zeros_at_random_spoil_nothing_else)
{
	const uint32_t nr = 8192;
	struct fake *w = two_merged();
	struct fake_client *c;
	uint64_t rng = fake_seed(), before;

	fake_set(w, KNOB_USE_ZERO_PAGES, 1);
	c = fake_client(w, BASE, nr + NR);
	for (uint32_t i = 0; i < nr; i++)
		fake_store(c, i, fake_rand(&rng) % 5 ? 0 : 1000000 + i);
	for (uint32_t i = 0; i < nr / STRETCH; i++) {
		int64_t budget = 1;

		engine_scan(w->e, 0, &budget); /* a stretch; and outcomes come while it goes on */
		fake_orders(w);
	}
	fake_passes(w, 2);
	ck_assert_uint_gt(fake_counters(w).total.order_pages_failed, 0);
	ck_assert_uint_le(fake_counters(w).total.order_pages_failed, 400);
	before = scanned(w);
	fake_fill_unique(c, nr, NR, 1);
	fake_pass(w);
	ck_assert_uint_eq(fake_counters(w).pages_sharing, 2 * NR);
	ck_assert_uint_le(scanned(w) - before, 2 * BLOCK_PAGES + FOLLOW_SAMPLES * NR / BLOCK_PAGES);
	fake_check(w);
	fake_free(w);
}
END_TEST

/* With a tree for each NUMA node, an equal page on another node must not be merged. */
START_TEST(not_across_nodes)
{
	struct fake *w = fake_new(2, 65536, 0);
	struct fake_client *c;
	uint32_t i;

	fake_set(w, KNOB_MERGE_ACROSS_NODES, 0);
	for (int k = 0; k < 3; k++) {
		c = fake_client(w, BASE, NR);
		fake_fill_unique(c, 0, NR, 1);
		for (i = 0; i < NR && k == 2; i++)
			c->page[i].nid = 1;
	}
	fake_passes(w, 3);
	ck_assert_uint_eq(fake_counters(w).pages_sharing, NR);
	ck_assert_uint_eq(fake_counters(w).total.order_pages_failed, 0);
	ck_assert_uint_eq(scanned(w), 3 * NR);
	fake_check(w);
	fake_free(w);
}
END_TEST

/* While the other worker looks at the first client, one of its pages comes to stand on a frame. */
static void adopt_far_page(struct fake_client *c)
{
	struct fake *w = c->w;

	if (c != w->client[0]) {
		w->in_track = adopt_far_page;
		return;
	}
	c->page[FAR] = c->page[0];
	ck_assert_int_eq(engine_adopt(c->mm, c->base + FAR * PAGE, 1, fake_frame(c, 0)), 0);
}

/* The first worker is at the start of the first client; the second one is led there by its own. */
static void second_follows(struct fake_client *c)
{
	int64_t budget = 100000;

	c->w->in_track = adopt_far_page;
	engine_scan(c->w->e, 1, &budget);
}

/*
 * Two workers track one client, and its message concerns the second worker's range. Seen to fail
 * (pages_sharing is 64: the engine gives the site up though the frame is mapped there) when only
 * the first worker was told.
 */
START_TEST(adopted_where_another_follows)
{
	struct fake *w = fake_new(1, 65536, 0);
	struct fake_client *c[2];

	for (int i = 0; i < 2; i++) {
		c[i] = fake_client(w, BASE, FAR + 1);
		fake_fill_unique(c[i], 0, BLOCK_PAGES, 1);
	}
	fake_passes(w, 2);
	ck_assert_uint_eq(fake_counters(w).pages_sharing, BLOCK_PAGES);
	for (int i = 0; i < 2; i++)
		fake_store(c[i], FAR, 1000000 + (uint64_t)i);
	w->in_track = second_follows;
	fake_scan(w);
	ck_assert_ptr_null(w->in_track);
	fake_check(w);
	ck_assert_uint_eq(fake_counters(w).pages_sharing, BLOCK_PAGES + 1);
	ck_assert_uint_eq(fake_counters(w).total.cow_breaks, 0);
	for (int i = 0; i < 2; i++)
		fake_dontneed(c[i], 0, BLOCK_PAGES);
	engine_epoch_free(w->e, engine_epoch(w->e));
	fake_check(w); /* the far page */
	fake_free(w);
}
END_TEST

Suite *suite_follow(void)
{
	Suite *s = suite_create("follow");
	TCase *t = tcase_create("follow");

	tcase_add_test(t, the_third_is_hardly_read);
	tcase_add_test(t, wrong_guesses_are_found_out);
	tcase_add_test(t, who_misleads_is_not_followed);
	tcase_add_test(t, pairs_are_read_on_both_sides);
	tcase_add_test(t, one_off_pages_get_no_frame);
	tcase_add_loop_test(t, zeros_follow_zeros, 0, 2);
	tcase_add_test(t, what_is_not_zero_stays);
	tcase_add_test(t, zeros_at_random_spoil_nothing_else);
	tcase_add_test(t, not_across_nodes);
	tcase_add_test(t, adopted_where_another_follows);
	suite_add_tcase(s, t);
	return s;
}
