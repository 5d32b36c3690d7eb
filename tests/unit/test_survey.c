/* SPDX-License-Identifier: MIT */
/*
 * test_survey.c - trees follow what has gone to another node. fake_check() holds every byte and
 * every count after each step.
 */
#include "fake.h"
#include "suites.h"

#include "engine/core.h"
#include "engine/settle.h"

enum { ZONE = 4096, NR = 100, NODES = 2 };
#define BASE 0x7f0000000000ull

static struct fake_client *client_on(struct fake *w, int i, uint8_t nid)
{
	return fake_client_on(w, BASE + (uint64_t)i * 0x10000000, NR, nid);
}

static void expect(struct fake *w, uint64_t shared, uint64_t sharing)
{
	struct engine_counters n = fake_counters(w);

	ck_assert_uint_eq(n.pages_shared, shared);
	ck_assert_uint_eq(n.pages_sharing, sharing);
}

/* Seen to fail (nothing is merged) when pages in the unstable tree are not asked about. */
START_TEST(calm_pages)
{
	struct fake *w = fake_apart(NODES, ZONE);
	struct fake_client *a = client_on(w, 0, 0);
	uint64_t reads;

	client_on(w, 1, 1);
	fake_passes(w, 3);
	fake_survey(w);
	reads = w->reads;
	fake_passes(w, 2);
	ck_assert_uint_eq(w->reads, reads); /* nothing moved: nothing is read */
	expect(w, 0, 0);
	for (uint32_t p = 0; p < NR; p++)
		a->page[p].nid = 1;
	fake_survey(w);
	ck_assert_uint_eq(fake_counters(w).total.pages_followed, NR);
	fake_passes(w, 2);
	expect(w, NR, NR);
	fake_free(w);
}
END_TEST

/* The same for those in crowds. */
START_TEST(waiting_pages)
{
	struct fake *w = fake_apart(NODES, ZONE);
	struct fake_client *a;

	fake_set(w, KNOB_MIN_SHARERS, 2);
	fake_set(w, KNOB_MERGE_DELAY_MILLISECS, 1000000);
	a = client_on(w, 0, 0);
	client_on(w, 1, 0);
	fake_passes(w, 3);
	ck_assert_uint_eq(fake_counters(w).pages_waiting, 2 * NR);
	for (uint32_t p = 0; p < NR; p++)
		a->page[p].nid = 1;
	fake_survey(w);
	fake_passes(w, 2);
	ck_assert_uint_eq(fake_counters(w).pages_waiting, 0);
	ck_assert_uint_eq(fake_counters(w).pages_unshared, 2 * NR);
	fake_free(w);
}
END_TEST

/* Seen to fail (the third client is alone) when a stable node stays in the tree of its number. */
START_TEST(frames)
{
	struct fake *w = fake_apart(NODES, ZONE);
	struct fake_client *a = client_on(w, 0, 0), *c;

	client_on(w, 1, 0);
	fake_passes(w, 3);
	expect(w, NR, NR);
	for (uint32_t p = 0; p < NR; p++)
		w->frame_nid[fake_frame(a, p)] = 2;
	fake_survey(w);
	ck_assert_uint_eq(fake_counters(w).total.frames_followed, NR);
	c = client_on(w, 2, 1);
	fake_passes(w, 3);
	expect(w, NR, 2 * NR);
	ck_assert_uint_eq(fake_frame(c, 5), fake_frame(a, 5));
	/* And back. */
	for (uint32_t p = 0; p < NR; p++)
		w->frame_nid[fake_frame(a, p)] = 1;
	fake_survey(w);
	client_on(w, 3, 0);
	fake_passes(w, 3);
	expect(w, NR, 3 * NR);
	fake_free(w);
}
END_TEST

/* The contents stand there already: the frames become dups of each other. */
START_TEST(twins)
{
	struct fake *w = fake_apart(NODES, ZONE);
	struct fake_client *a = client_on(w, 0, 0);

	client_on(w, 1, 0);
	client_on(w, 2, 1);
	client_on(w, 3, 1);
	fake_passes(w, 3);
	expect(w, 2 * NR, 2 * NR);
	for (uint32_t p = 0; p < NR; p++)
		w->frame_nid[fake_frame(a, p)] = 2;
	fake_survey(w);
	ck_assert_uint_eq(fake_counters(w).stable_node_chains, NR);
	ck_assert_uint_eq(fake_counters(w).stable_node_dups, 2 * NR);
	fake_free(w);
}
END_TEST

/* A site that has been written says nothing of its frame. Seen to fail when it is believed. */
START_TEST(written_sites)
{
	struct fake *w = fake_apart(NODES, ZONE);
	struct fake_client *c[2];

	c[0] = client_on(w, 0, 0);
	c[1] = client_on(w, 1, 0);
	fake_passes(w, 3);
	for (int i = 0; i < 2; i++)
		for (uint32_t p = 0; p < NR; p++) {
			fake_store(c[i], p, 5000 + p);
			c[i]->page[p].nid = 1;
		}
	fake_survey(w);
	ck_assert_uint_eq(fake_counters(w).total.frames_followed, 0);
	fake_passes(w, 3);
	expect(w, NR, NR);
	fake_free(w);
}
END_TEST

/* Where a node is full its frames come to lie elsewhere, and go to the tree of that node. */
START_TEST(full_node)
{
	struct fake *w = fake_apart(NODES, ZONE);
	struct fake_client *a = client_on(w, 0, 0);
	uint64_t placed = 0;

	w->full_nid = 2;
	client_on(w, 1, 0);
	fake_passes(w, 3);
	expect(w, NR, NR);
	ck_assert_uint_eq(fake_counters(w).frames_away, NR);
	fake_survey(w);
	ck_assert_uint_eq(fake_counters(w).total.frames_followed, 0);
	client_on(w, 2, 0); /* it is merged all the same */
	fake_passes(w, 3);
	expect(w, NR, 2 * NR);
	w->move_fails = NR / 2; /* it has no room yet */
	while (!engine_bring_back(w->e, 0, &placed))
		fake_check(w);
	ck_assert_uint_eq(placed + fake_counters(w).frames_away, NR);
	ck_assert_uint_lt(placed, NR);
	w->move_fails = 0;
	while (!engine_bring_back(w->e, 0, &placed))
		fake_check(w);
	ck_assert_uint_eq(placed, NR);
	ck_assert_uint_eq(fake_counters(w).frames_away, 0);
	for (uint32_t p = 0; p < NR; p++)
		ck_assert_uint_eq(w->frame_nid[fake_frame(a, p)], 1);
	fake_free(w);
}
END_TEST

/* Pages that wait, of a node that counts as `home` now, are found by those that come after. */
static void home_changes(struct fake *w, int home, int i)
{
	uint64_t followed = fake_counters(w).total.pages_followed;

	engine_set_home(w->e, 0, home);
	ck_assert(engine_survey_due(w->e));
	client_on(w, i, 0);
	fake_passes(w, 3);
	expect(w, 0, 0);
	fake_survey(w);
	ck_assert(!engine_survey_due(w->e));
	ck_assert_uint_eq(fake_counters(w).total.pages_followed, followed + NR);
	fake_passes(w, 2);
	expect(w, NR, NR);
}

/*
 * A node gets memory, or is to be empty, between two looks at pages that nobody writes. Seen to
 * fail when nothing is due then.
 */
START_TEST(homes)
{
	struct fake *w = fake_apart(NODES, ZONE);

	client_on(w, 0, 0);
	fake_passes(w, 3);
	home_changes(w, 1, 1);
	fake_exit(w->client[0]);
	fake_exit(w->client[1]);
	client_on(w, 2, 0);
	fake_passes(w, 3);
	engine_set_home(w->e, 0, 1); /* as before: nothing is to be asked */
	ck_assert(!engine_survey_due(w->e));
	home_changes(w, 0, 3);
	fake_free(w);
}
END_TEST

/* A round that has passed some pages when the home changes begins anew. */
START_TEST(homes_during_a_round)
{
	struct fake *w = fake_apart(NODES, ZONE);

	for (int i = 0; i < 4; i++)
		fake_fill_unique(client_on(w, i, 0), 0, NR, 4000 + 1000 * (uint64_t)i);
	fake_passes(w, 3);
	ck_assert(!engine_survey(w->e, NR));
	engine_set_home(w->e, 0, 1);
	fake_survey(w);
	ck_assert(!engine_survey_due(w->e));
	ck_assert_uint_eq(fake_counters(w).total.pages_followed, 4 * NR);
	fake_free(w);
}
END_TEST

/* Where there is one tree for all, a home says nothing of pages that wait. */
START_TEST(homes_across)
{
	struct fake *w = fake_new(NODES, ZONE, 0);

	client_on(w, 0, 0);
	fake_passes(w, 3);
	engine_set_home(w->e, 0, 1);
	ck_assert(!engine_survey_due(w->e));
	fake_free(w);
}
END_TEST

Suite *suite_survey(void)
{
	Suite *s = suite_create("survey");
	TCase *tc = engine_case("survey");

	tcase_add_test(tc, calm_pages);
	tcase_add_test(tc, waiting_pages);
	tcase_add_test(tc, frames);
	tcase_add_test(tc, twins);
	tcase_add_test(tc, written_sites);
	tcase_add_test(tc, full_node);
	tcase_add_test(tc, homes);
	tcase_add_test(tc, homes_during_a_round);
	tcase_add_test(tc, homes_across);
	suite_add_tcase(s, tc);
	return s;
}
