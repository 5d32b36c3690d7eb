/* SPDX-License-Identifier: MIT */
/*
 * test_place.c - frames that the kernel moves for the mover, what becomes of equal contents at the
 * destination, of one client's pages, and of a node that nothing is to come to. fake_check() holds
 * every byte and every count after each step.
 */
#include "fake.h"
#include "suites.h"

#include <errno.h>

#include "engine/core.h"
#include "engine/job.h"
#include "engine/settle.h"

enum { ZONE = 4096, NR = 100 };
#define BASE 0x7f0000000000ull

static struct fake_client *client_on(struct fake *w, int i, uint8_t nid)
{
	return fake_client_on(w, BASE + (uint64_t)i * 0x10000000, NR, nid);
}

/* Clients on nodes of their own, each with the same contents; a tree for each node. */
static struct fake *world(const char *nids)
{
	struct fake *w = fake_apart(3, ZONE);

	for (int i = 0; nids[i]; i++)
		client_on(w, i, (uint8_t)(nids[i] - '0'));
	fake_passes(w, 3);
	return w;
}

static int nid_of(const struct fake_client *c, uint32_t page)
{
	uint32_t f = fake_frame(c, page);

	if (f == FAKE_NO_FRAME)
		return -1;
	return c->w->frame_nid[f] ? c->w->frame_nid[f] - 1 : (int)(f / ZONE);
}

static void must_lie(struct fake *w, int client, int nid)
{
	for (uint32_t p = 0; p < NR; p++)
		must_msg(nid_of(w->client[client], p) == nid, "client %d page %u is on node %d",
			 client, p, nid_of(w->client[client], p));
}

static void migrate(struct fake *w, int from, int to)
{
	ck_assert_int_eq(engine_migrate(w->e, from, to), 0);
	fake_migrate(w);
}

static void expect(struct fake *w, uint64_t shared, uint64_t sharing, uint64_t chains)
{
	struct engine_counters n = fake_counters(w);

	ck_assert_uint_eq(n.pages_shared, shared);
	ck_assert_uint_eq(n.pages_sharing, sharing);
	ck_assert_uint_eq(n.stable_node_chains, chains);
}

static uint64_t on_node(struct fake *w, int nid)
{
	struct engine_on_node n;

	engine_on_node(w->e, nid, &n);
	return n.used;
}

/* Numbers stay, nobody is asked, and the tree is that of the new node. */
START_TEST(no_order)
{
	struct fake *w = world("00");
	uint32_t frame = fake_frame(w->client[0], 7);
	uint64_t sent = w->sent;

	migrate(w, 0, 1);
	must_lie(w, 0, 1);
	ck_assert_uint_eq(w->sent, sent);
	ck_assert_uint_eq(fake_frame(w->client[0], 7), frame);
	ck_assert_uint_eq(w->migrated.placed, NR);
	ck_assert_uint_eq(w->migrated.frames, 0);
	ck_assert_uint_eq(on_node(w, 0), 0);
	ck_assert_uint_eq(on_node(w, 1), NR);
	client_on(w, 2, 1);
	client_on(w, 3, 0);
	fake_passes(w, 3);
	expect(w, NR, 2 * NR, 0); /* the one on node 0 is alone */
	ck_assert_uint_eq(fake_frame(w->client[2], 7), frame);
	migrate(w, 1, 0);
	fake_passes(w, 3);
	must_lie(w, 2, 0);
	fake_free(w);
}
END_TEST

/*
 * The kernel is asked for many frames in one call, and for fewer until it is known to move any:
 * else clients are asked, and each frame needs another one beside it.
 */
START_TEST(in_large_calls)
{
	enum { MANY = 3 * WINDOW / 2 };
	struct fake *w = fake_apart(2, 2 * ZONE);

	for (int i = 0; i < 2; i++)
		fake_client_on(w, BASE + (uint64_t)i * 0x10000000, MANY, 0);
	fake_passes(w, 3);
	expect(w, MANY, MANY, 0);
	migrate(w, 0, 1);
	ck_assert_uint_eq(w->migrated.placed, MANY);
	ck_assert_uint_eq(w->move_calls, 3);
	ck_assert_uint_eq(w->move_most, WINDOW);
	/* Not those that clients have to move. */
	w->move_fails = -EPERM;
	w->move_calls = w->move_most = 0;
	migrate(w, 1, 0);
	ck_assert_uint_eq(w->migrated.frames, MANY);
	ck_assert_uint_eq(w->move_calls, 1);
	ck_assert_uint_eq(w->move_most, WINDOW_ORDERED);
	fake_free(w);
}
END_TEST

/* What stands there already takes the pages; the rest is moved. */
START_TEST(collision)
{
	struct fake *w = world("0011");

	for (uint32_t p = 0; p < NR / 2; p++) {
		fake_store(w->client[2], p, 5000 + p);
		fake_store(w->client[3], p, 5000 + p);
	}
	fake_passes(w, 3);
	expect(w, 2 * NR, 2 * NR, 0);
	migrate(w, 0, 1);
	must_lie(w, 0, 1);
	must_lie(w, 1, 1);
	expect(w, NR + NR / 2, 4 * NR - NR - NR / 2, 0);
	ck_assert_uint_eq(w->migrated.placed, NR / 2);
	ck_assert_uint_eq(w->migrated.frames, NR / 2);
	ck_assert_uint_eq(w->migrated.collisions, NR / 2);
	ck_assert_uint_eq(on_node(w, 0), 0);
	fake_free(w);
}
END_TEST

/* max_page_sharing leaves no room for all: the frame moves as it is, and becomes a dup. */
START_TEST(no_room_for_all)
{
	struct fake *w = world("");

	fake_set(w, KNOB_MAX_PAGE_SHARING, 3);
	for (int i = 0; i < 4; i++)
		client_on(w, i, (uint8_t)(i / 2));
	fake_passes(w, 3);
	migrate(w, 0, 1);
	must_lie(w, 0, 1);
	expect(w, 2 * NR, 2 * NR, NR);
	ck_assert_uint_eq(w->migrated.placed, NR);
	ck_assert_int_eq(engine_migrate_twins(w->e), 0);
	fake_migrate(w);
	expect(w, 2 * NR, 2 * NR, NR);
	ck_assert_uint_eq(fake_counters(w).frames_met, 0); /* not asked about for ever */
	fake_free(w);
}
END_TEST

/* All but one client answer. */
static void without(struct fake *w, int silent)
{
	while (fake_migrate_step(w)) {
		fake_check(w);
		for (int i = 0; i < w->nr_clients; i++)
			if (i != silent && w->client[i]) {
				fake_agent_run(w->client[i]);
				fake_agent_answer(w->client[i]);
			}
		fake_check(w);
		w->now_ms += 5;
	}
}

/* A client that does not answer keeps its number; the frame moves, and meets its twin. */
START_TEST(silent_in_collision)
{
	struct fake *w = world("0011");
	uint64_t failed = 0;

	ck_assert_int_eq(engine_migrate(w->e, 0, 1), 0);
	without(w, 1);
	must_lie(w, 0, 1);
	must_lie(w, 1, 1);
	ck_assert_uint_ne(fake_frame(w->client[0], 3), fake_frame(w->client[1], 3));
	for (int i = 0; i < MOVE_FAILED_NR; i++)
		failed += w->migrated.failed[i];
	ck_assert_uint_eq(failed, 0); /* nothing is left on node 0 */
	ck_assert_uint_eq(on_node(w, 0), 0);
	ck_assert_uint_eq(fake_counters(w).frames_met, NR);
	/* It answers again. */
	fake_orders(w);
	expect(w, NR, 3 * NR, 0);
	fake_free(w);
}
END_TEST

/* Frames that the kernel moved to where their contents stood are merged with these. */
static struct fake *twins(void)
{
	struct fake *w = world("0011");

	for (uint32_t p = 0; p < NR; p++)
		w->frame_nid[fake_frame(w->client[0], p)] = 2;
	fake_survey(w);
	expect(w, 2 * NR, 2 * NR, NR);
	ck_assert_uint_eq(fake_counters(w).frames_met, NR);
	return w;
}

START_TEST(twins_merge)
{
	struct fake *w = twins();

	ck_assert_int_eq(engine_migrate_twins(w->e), 0);
	ck_assert_int_eq(engine_migrate_twins(w->e), -EALREADY);
	fake_migrate(w);
	expect(w, NR, 3 * NR, 0);
	ck_assert_uint_eq(w->migrated.collisions, NR);
	ck_assert_uint_eq(fake_counters(w).frames_met, 0);
	engine_epoch_free(w->e, engine_epoch(w->e));
	ck_assert_uint_eq(fake_counters(w).frames_used, NR);
	fake_free(w);
}
END_TEST

/* Tries are counted, and the last failure is reported. */
START_TEST(twins_of_the_silent)
{
	struct fake *w = twins();

	for (int i = 0; i < STABLE_MEET_TRIES; i++) {
		ck_assert_uint_eq(w->migrated.failed[MOVE_SILENT], 0);
		ck_assert_uint_eq(fake_counters(w).frames_met, NR);
		ck_assert_int_eq(engine_migrate_twins(w->e), 0);
		without(w, 0);
	}
	ck_assert_uint_eq(w->migrated.failed[MOVE_SILENT], NR);
	ck_assert_uint_eq(w->migrated.culprit.client, w->client[0]->id);
	ck_assert_uint_eq(fake_counters(w).frames_met, 0);
	expect(w, 2 * NR, 2 * NR, NR);
	fake_orders(w);
	expect(w, NR, 3 * NR, 0); /* its answers are right, late as they are */
	fake_free(w);
}
END_TEST

/* Neighbours whose frames have other numbers now. */
static uint32_t runs(const struct fake_client *c, uint32_t nr)
{
	uint32_t n = 1;

	for (uint32_t p = 1; p < nr; p++)
		n += fake_frame(c, p) != fake_frame(c, p - 1) + 1;
	return n;
}

/* Each client answers one order after the other. */
static void migrate_slowly(struct fake *w, int from, int to)
{
	ck_assert_int_eq(engine_migrate(w->e, from, to), 0);
	while (fake_migrate_step(w)) {
		for (int i = 0; i < w->nr_clients; i++) {
			struct fake_client *c = w->client[i];

			for (int k = 0; k < c->nr_orders; k++)
				c->order[k].held = k > 0;
			fake_agent_run(c);
			fake_agent_answer(c);
		}
		w->now_ms += 5;
	}
	fake_check(w);
}

/* More than the mover has under way at a time: what is in one mapping stays in one. */
START_TEST(repointed_runs_stay_runs)
{
	enum { MANY = 2000 };
	struct fake *w = world("");
	struct fake_client *c[2];
	uint32_t before;

	for (int i = 0; i < 2; i++) {
		c[i] = fake_client(w, BASE + (uint64_t)i * 0x10000000, MANY);
		fake_fill_unique(c[i], 0, MANY, 1000);
	}
	fake_passes(w, 3);
	before = runs(c[0], MANY);
	w->move_fails = -EPERM;
	migrate_slowly(w, 0, 1);
	ck_assert_uint_eq(w->migrated.frames, MANY);
	ck_assert_uint_le(runs(c[0], MANY), before + 8);
	migrate_slowly(w, 1, 0);
	ck_assert_uint_le(runs(c[0], MANY), before + 16);
	fake_free(w);
}
END_TEST

/* A sharer that has written keeps its page; the frame goes with the others. */
START_TEST(writer_keeps_its_page)
{
	struct fake *w = world("00011");

	ck_assert_int_eq(engine_migrate(w->e, 0, 1), 0);
	fake_migrate_step(w);
	for (uint32_t p = 0; p < NR; p += 2)
		fake_store(w->client[1], p, 9000 + p);
	fake_migrate(w);
	for (uint32_t p = 0; p < NR; p++)
		ck_assert_int_eq(nid_of(w->client[1], p), p % 2 ? 1 : -1);
	must_lie(w, 0, 1);
	must_lie(w, 2, 1);
	fake_passes(w, 3);
	fake_free(w);
}
END_TEST

/* A frame that the kernel does not move is re-pointed, and one that has no room at all stays. */
START_TEST(kernel_will_not)
{
	struct fake *w = world("00");

	w->move_fails = NR / 2;
	migrate(w, 0, 1);
	must_lie(w, 0, 1);
	ck_assert_uint_eq(w->migrated.placed + w->migrated.frames, NR);
	ck_assert_uint_gt(w->migrated.frames, 0);
	w->move_fails = 100000;
	w->full_nid = 2; /* no new frame comes to lie on node 0 */
	migrate(w, 1, 0);
	must_lie(w, 0, 1);
	ck_assert_uint_eq(w->migrated.failed[MOVE_NO_MEMORY], NR);
	ck_assert_uint_eq(on_node(w, 1), NR);
	fake_free(w);
}
END_TEST

/* Frames for which their node had no room are a node's that lie on it, when that is to be empty. */
START_TEST(away_frames_count_where_they_lie)
{
	struct fake *w = world("");
	uint64_t asked;

	w->full_nid = 1; /* all new frames come to lie on node 0 */
	client_on(w, 0, 1);
	client_on(w, 1, 1);
	fake_passes(w, 3);
	ck_assert_uint_eq(fake_counters(w).frames_away, NR);
	ck_assert_uint_eq(on_node(w, 1), NR);
	engine_count_away(w->e, 1);
	ck_assert_uint_eq(on_node(w, 1), NR);
	asked = w->nids_asked;
	engine_count_away(w->e, 0);
	/* Together, since each question costs mappings of the frames. */
	ck_assert_uint_eq(w->nids_asked, asked + 1);
	ck_assert_uint_eq(on_node(w, 0), NR);
	ck_assert_uint_eq(fake_counters(w).frames_away, 0);
	w->full_nid = 0;
	migrate(w, 0, 1);
	must_lie(w, 0, 1);
	must_lie(w, 1, 1);
	fake_free(w);
}
END_TEST

/* Of a frame with others' pages on it the client's alone go; its own frames go whole. */
START_TEST(one_client)
{
	struct fake *w = world("000");

	for (uint32_t p = 0; p < NR / 2; p++) /* pairs of its own */
		fake_store(w->client[0], p, 7000 + p / 2);
	fake_passes(w, 3);
	ck_assert_int_eq(engine_migrate_client(w->client[0]->mm, 3), -EINVAL);
	ck_assert_int_eq(engine_migrate_client(w->client[0]->mm, -1), -EINVAL);
	ck_assert_int_eq(engine_migrate_client(w->client[0]->mm, 1), 0);
	ck_assert_int_eq(engine_migrate_client(w->client[1]->mm, 1), -EALREADY);
	fake_migrate(w);
	must_lie(w, 0, 1);
	must_lie(w, 1, 0);
	must_lie(w, 2, 0);
	ck_assert_uint_eq(w->migrated.placed, NR / 4);
	ck_assert_uint_eq(w->migrated.frames, NR / 2);
	/* The next one that goes there finds what it needs. */
	ck_assert_int_eq(engine_migrate_client(w->client[1]->mm, 1), 0);
	fake_migrate(w);
	must_lie(w, 1, 1);
	ck_assert_uint_eq(w->migrated.collisions, NR / 2);
	must_lie(w, 2, 0);
	/* And back, to where half of it still stands. */
	ck_assert_int_eq(engine_migrate_client(w->client[0]->mm, 0), 0);
	fake_migrate(w);
	must_lie(w, 0, 0);
	fake_free(w);
}
END_TEST

/* The client goes while its pages move. */
START_TEST(client_exits)
{
	struct fake *w = world("000");

	ck_assert_int_eq(engine_migrate_client(w->client[0]->mm, 1), 0);
	fake_migrate_step(w);
	fake_exit(w->client[0]);
	fake_migrate(w);
	ck_assert_int_eq(engine_migrate_step(w->e, ENGINE_JOB_CLIENT, w->now_ms, &w->migrated),
			 ENGINE_MIGRATE_NONE);
	must_lie(w, 1, 0);
	fake_free(w);
}
END_TEST

/* Nothing new comes to a node whose pages count as another's; what stands there is moved. */
START_TEST(no_home)
{
	struct fake *w = world("0011");

	engine_set_home(w->e, 0, 1);
	migrate(w, 0, 1);
	ck_assert_uint_eq(on_node(w, 0), 0);
	expect(w, NR, 3 * NR, 0);
	client_on(w, 4, 0);
	for (int i = 5; i < 7; i++) {
		struct fake_client *c = client_on(w, i, 0);

		fake_fill_unique(c, 0, NR, 4000);
	}
	fake_passes(w, 3);
	fake_survey(w);
	must_lie(w, 4, 1);
	must_lie(w, 5, 1);
	ck_assert_uint_eq(on_node(w, 0), 0);
	/* Pages that waited when it lost its home come to the other tree, too. */
	engine_set_home(w->e, 0, 0);
	client_on(w, 7, 0);
	fake_passes(w, 3);
	ck_assert_int_eq(nid_of(w->client[7], 5), -1);
	engine_set_home(w->e, 0, 1);
	fake_survey(w);
	fake_passes(w, 3);
	must_lie(w, 7, 1);
	fake_free(w);
}
END_TEST

/* Two opposite ones at once: each frame lies on one of both, and all comes to an end. */
START_TEST(opposite)
{
	struct fake *w = world("0011");

	ck_assert_int_eq(engine_migrate(w->e, 0, 1), 0);
	ck_assert_int_eq(engine_migrate(w->e, 1, 0), 0);
	fake_migrate(w);
	ck_assert_uint_eq(on_node(w, 0) + on_node(w, 1), fake_counters(w).pages_shared);
	fake_passes(w, 3);
	fake_free(w);
}
END_TEST

/* Cancelled: what has not moved is as before, and nothing more is asked of the kernel. */
START_TEST(cancelled)
{
	struct fake *w = world("0011");

	ck_assert_int_eq(engine_migrate(w->e, 0, 1), 0);
	fake_migrate_step(w);
	engine_migrate_end(w->e, 0);
	fake_migrate_step(w);
	fake_check(w);
	ck_assert_int_eq(engine_migrate_step(w->e, 0, w->now_ms, &w->migrated),
			 ENGINE_MIGRATE_NONE);
	must_lie(w, 0, 0);
	ck_assert_uint_eq(w->migrated.placed, 0);
	fake_orders(w); /* what was sent is answered, and right */
	expect(w, NR, 3 * NR, 0);
	fake_free(w);
}
END_TEST

Suite *suite_place(void)
{
	Suite *s = suite_create("place");
	TCase *tc = engine_case("place");

	tcase_add_test(tc, no_order);
	tcase_add_test(tc, in_large_calls);
	tcase_add_test(tc, collision);
	tcase_add_test(tc, no_room_for_all);
	tcase_add_test(tc, silent_in_collision);
	tcase_add_test(tc, twins_merge);
	tcase_add_test(tc, twins_of_the_silent);
	tcase_add_test(tc, writer_keeps_its_page);
	tcase_add_test(tc, kernel_will_not);
	tcase_add_test(tc, one_client);
	tcase_add_test(tc, client_exits);
	tcase_add_test(tc, no_home);
	tcase_add_test(tc, repointed_runs_stay_runs);
	tcase_add_test(tc, away_frames_count_where_they_lie);
	tcase_add_test(tc, opposite);
	tcase_add_test(tc, cancelled);
	suite_add_tcase(s, tc);
	return s;
}
