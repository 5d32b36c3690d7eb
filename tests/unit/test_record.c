/* SPDX-License-Identifier: MIT */
/*
 * test_record.c - what is kept of pages and frames goes to the node where it is walked.
 * fake_check() holds every link and every count after each step. The random steps of model.c have
 * records copied, too.
 */
#include "fake.h"
#include "suites.h"

#include "engine/core.h"
#include "engine/settle.h"

enum { ZONE = 4096, NR = 300, NODES = 2 };
#define BASE 0x7f0000000000ull

static struct fake_client *client_on(struct fake *w, int i, uint8_t nid)
{
	struct fake_client *c = fake_client_on(w, BASE + (uint64_t)i * 0x10000000, NR, nid);

	engine_mm_set_reader(c->mm, nid);
	return c;
}

static unsigned int place_of(const struct slab *s, uint32_t i)
{
	return slab_is_elsewhere(s, i, 0);
}

/* All that is kept of the client's pages lies there. */
static bool lies_in(const struct fake_client *c, unsigned int place)
{
	const struct block_table *t = &c->mm->table;
	bool all = t->nr > 0;

	for (uint32_t i = 0; i < t->cap; i++)
		all &= t->entry[i].block == NIL ||
		       place_of(&c->w->e->blocks, t->entry[i].block) == place;
	return all;
}

/* Nodes of the client's frames that lie there. */
static uint32_t nodes_in(const struct fake_client *c, unsigned int place)
{
	const struct engine *e = c->w->e;
	uint32_t nr = 0;

	for (uint32_t p = 0; p < NR; p++)
		nr += fake_frame(c, p) != FAKE_NO_FRAME &&
		      place_of(&e->stable.nodes, pool_word(&e->pool, fake_frame(c, p))) == place;
	return nr;
}

/* Pages that are unique, merged, merged and then written, zero, and written all the time. */
static struct fake_client *mixed(struct fake *w)
{
	struct fake_client *c = client_on(w, 0, 0);

	client_on(w, 1, 0);
	fake_fill_unique(c, 100, 60, 7000);
	fake_fill(c, 160, 40, FAKE_ZERO_TAG);
	fake_passes(w, 3);
	for (uint32_t p = 10; p < 40; p += 3)
		fake_store(c, p, 8000 + p);
	fake_scan(w);
	fake_check(w);
	return c;
}

/* Seen to fail when nothing is copied. */
START_TEST(of_pages)
{
	struct fake *w = fake_apart(NODES, ZONE);
	struct fake_client *c = mixed(w);
	struct engine_counters before = fake_counters(w);

	fake_survey(w);
	ck_assert(lies_in(c, 0));
	engine_mm_set_reader(c->mm, 1);
	fake_survey(w);
	ck_assert(lies_in(c, 1));
	ck_assert(lies_in(w->client[1], 0));
	/* Nothing else has changed. */
	ck_assert_uint_eq(fake_counters(w).pages_shared, before.pages_shared);
	ck_assert_uint_eq(fake_counters(w).pages_unshared, before.pages_unshared);
	ck_assert_uint_eq(fake_counters(w).pages_volatile, before.pages_volatile);
	for (uint32_t p = 0; p < NR; p += 7)
		fake_store(c, p, 9000 + p % 14);
	fake_passes(w, 4);
	engine_mm_set_reader(c->mm, NID_UNKNOWN);
	fake_survey(w);
	ck_assert(lies_in(c, 1));
	engine_mm_set_reader(c->mm, 0);
	fake_survey(w);
	ck_assert(lies_in(c, 0));
	fake_exit(c);
	fake_passes(w, 2);
	fake_free(w);
}
END_TEST

/* Equal pages that wait, several of a family and of one block on one list. */
START_TEST(of_waiting_pages)
{
	struct fake *w = fake_apart(NODES, ZONE);
	struct fake_client *c;

	fake_set(w, KNOB_MIN_SHARERS, 2);
	fake_set(w, KNOB_MERGE_DELAY_MILLISECS, 100);
	c = client_on(w, 0, 0);
	fake_fill(c, 0, 100, 4000);
	client_on(w, 1, 0);
	fake_passes(w, 3);
	ck_assert_uint_gt(fake_counters(w).pages_waiting, 0);
	engine_mm_set_reader(c->mm, 1);
	fake_survey(w);
	ck_assert(lies_in(c, 1));
	fake_tick(w, 1000);
	fake_passes(w, 3);
	ck_assert_uint_eq(fake_counters(w).pages_shared, NR - 100);
	fake_free(w);
}
END_TEST

/* The outcome of an order comes when the block is elsewhere, and so do those that still wait. */
START_TEST(of_ordered_pages)
{
	struct fake *w = fake_apart(NODES, ZONE);
	struct fake_client *c = client_on(w, 0, 0), *d = client_on(w, 1, 0);

	fake_scan(w);
	c->full = true; /* d's orders are sent, c's wait */
	engine_flush(w->e, ENGINE_FLUSH_PASS);
	ck_assert_uint_gt(w->e->nr_orders, 0);
	ck_assert_uint_gt(c->mm->nr_ready, 0);
	engine_mm_set_reader(c->mm, 1);
	engine_mm_set_reader(d->mm, 1);
	fake_survey(w);
	ck_assert(lies_in(c, 1) && lies_in(d, 1));
	c->full = false;
	fake_passes(w, 3);
	ck_assert_uint_eq(fake_counters(w).pages_sharing, NR);
	fake_free(w);
}
END_TEST

/* Seen to fail when stable nodes are not copied. */
START_TEST(of_frames)
{
	struct fake *w = fake_apart(NODES, ZONE);
	struct fake_client *c = client_on(w, 0, 0), *d;

	fake_set(w, KNOB_MAX_PAGE_SHARING, 2);
	for (int i = 1; i < 6; i++)
		client_on(w, i, 0); /* frames that are dups of each other */
	fake_passes(w, 4);
	ck_assert_uint_eq(nodes_in(c, 0), NR);
	for (uint32_t p = 0; p < NR; p++)
		w->frame_nid[fake_frame(c, p)] = 2;
	fake_survey(w); /* at once, and not in the next round */
	ck_assert_uint_eq(fake_counters(w).total.frames_followed, NR);
	ck_assert_uint_eq(nodes_in(c, 1), NR);
	/* The tree finds them there. */
	d = client_on(w, 6, 1);
	fake_exit(w->client[1]);
	for (int i = 2; i < 6; i++)
		fake_exit(w->client[i]);
	fake_passes(w, 4);
	ck_assert_uint_eq(nodes_in(c, 1), nodes_in(d, 1));
	ck_assert_uint_gt(nodes_in(d, 1), NR / 2);
	fake_free(w);
}
END_TEST

/*
 * A node with orders stays, because nothing leads from it to what is ordered to it. Seen to fail
 * when it does not.
 */
START_TEST(of_frames_with_orders)
{
	struct fake *w = fake_apart(NODES, ZONE);
	struct fake_client *c = client_on(w, 0, 0), *d;

	client_on(w, 1, 0);
	fake_passes(w, 3);
	d = client_on(w, 2, 0);
	fake_scan(w);
	ck_assert_uint_gt(d->mm->nr_ready, 0);
	for (uint32_t p = 0; p < NR; p++)
		w->frame_nid[fake_frame(c, p)] = 2;
	fake_survey(w);
	ck_assert_uint_eq(fake_counters(w).total.frames_followed, NR);
	ck_assert_uint_eq(nodes_in(c, 0), NR);
	fake_orders(w);
	fake_survey(w);
	ck_assert_uint_eq(nodes_in(d, 1), NR);
	fake_free(w);
}
END_TEST

/* Frames of two clients of node 0 have gone to node 1, and what is kept of them has not. */
static struct fake *moved(void)
{
	struct fake *w = fake_apart(NODES, ZONE);

	client_on(w, 0, 0);
	client_on(w, 1, 0);
	fake_passes(w, 3);
	ck_assert_int_eq(engine_migrate(w->e, 0, 1), 0);
	fake_migrate(w);
	return w;
}

static void survey_beside(struct fake *w)
{
	while (!engine_survey(w->e, 10))
		;
}

/* Nor does one that a mover has. Seen to fail when it does. */
START_TEST(of_isolated_frames)
{
	struct fake *w = moved();
	const struct fake_client *c = w->client[0];

	ck_assert_int_eq(engine_migrate(w->e, 1, 0), 0);
	w->in_frames = survey_beside;
	fake_migrate(w);
	for (uint32_t p = 0; p < NR; p++)
		ck_assert_uint_le(w->frame_nid[fake_frame(c, p)], 1);
	ck_assert_uint_eq(nodes_in(c, 0), NR);
	fake_free(w);
}
END_TEST

/* A frame that the mover has had moved is followed by the next round, not by the mover. */
START_TEST(of_frames_that_are_moved)
{
	struct fake *w = moved();
	const struct fake_client *c = w->client[0];

	ck_assert_uint_eq(fake_counters(w).total.frames_followed, 0);
	ck_assert_uint_eq(nodes_in(c, 0), NR);
	fake_survey(w);
	ck_assert_uint_eq(nodes_in(c, 1), NR);
	/* Back, as the sites are read from there. */
	ck_assert_int_eq(engine_migrate(w->e, 1, 0), 0);
	fake_migrate(w);
	fake_survey(w);
	ck_assert_uint_eq(nodes_in(c, 0), NR);
	fake_free(w);
}
END_TEST

/* Without memory there all stay, and go when there is some. */
START_TEST(without_memory)
{
	struct fake *w = fake_apart(NODES, ZONE);
	struct fake_client *c = mixed(w);

	for (uint32_t p = 0; p < NR; p++)
		if (fake_frame(c, p) != FAKE_NO_FRAME)
			w->frame_nid[fake_frame(c, p)] = 2;
	engine_mm_set_reader(c->mm, 1);
	w->memory_full = true;
	fake_survey(w);
	ck_assert(lies_in(c, 0));
	ck_assert_uint_eq(nodes_in(c, 1), 0);
	fake_passes(w, 2);
	w->memory_full = false;
	fake_survey(w);
	ck_assert(lies_in(c, 1));
	ck_assert_uint_eq(nodes_in(c, 0), 0);
	fake_free(w);
}
END_TEST

/*
 * While one client's pages are moved its blocks stay: the job goes through them by their numbers.
 * Seen to fail (some frames stay behind) when they do not.
 */
START_TEST(not_under_a_job)
{
	struct fake *w = fake_apart(NODES, ZONE);
	struct fake_client *c, *first = client_on(w, 0, 1);

	fake_fill_unique(first, 0, NR, 3000);
	fake_passes(w, 2); /* its blocks have low numbers, and those numbers become free */
	c = client_on(w, 1, 0);
	client_on(w, 2, 0);
	fake_passes(w, 3);
	fake_exit(first);
	ck_assert_int_eq(engine_migrate_client(c->mm, 1), 0);
	engine_mm_set_reader(c->mm, 1);
	for (int n = 0; fake_migrate_step(w); n++) {
		ck_assert_int_lt(n, 10000);
		fake_survey(w);
		ck_assert(lies_in(c, 0));
		fake_answer_all(w);
	}
	for (uint32_t p = 0; p < NR; p++)
		ck_assert_uint_eq(w->frame_nid[fake_frame(c, p)], 2);
	fake_survey(w);
	ck_assert(lies_in(c, 1));
	fake_free(w);
}
END_TEST

Suite *suite_record(void)
{
	Suite *s = suite_create("record");
	TCase *tc = engine_case("record");

	tcase_add_test(tc, of_pages);
	tcase_add_test(tc, of_waiting_pages);
	tcase_add_test(tc, of_ordered_pages);
	tcase_add_test(tc, of_frames);
	tcase_add_test(tc, of_frames_with_orders);
	tcase_add_test(tc, of_isolated_frames);
	tcase_add_test(tc, of_frames_that_are_moved);
	tcase_add_test(tc, without_memory);
	tcase_add_test(tc, not_under_a_job);
	suite_add_tcase(s, tc);
	return s;
}
