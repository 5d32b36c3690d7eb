/* SPDX-License-Identifier: MIT */
/*
 * test_migrate.c - the mover: where sites stand afterwards, what is left, and what may happen
 * between any two of its steps. fake_check() holds every byte and every count after each.
 */
#include "fake.h"
#include "suites.h"

#include <errno.h>

#include "engine/core.h"
#include "engine/settle.h"

enum { ZONE = 4096, NR = FAKE_CROWD_PAGES };
#define BASE FAKE_CROWD_BASE

/* The kernel moves nothing for the daemon, so pages are re-pointed. */
static struct fake *repointing(int nodes)
{
	struct fake *w = fake_new(nodes, ZONE, 0);

	w->move_fails = -EPERM;
	return w;
}

static struct fake *world(int nodes, int clients)
{
	struct fake *w = fake_crowd(nodes, ZONE, clients);

	w->move_fails = -EPERM;
	return w;
}

static int zone_of(const struct fake_client *c, uint32_t page)
{
	return fake_frame(c, page) == FAKE_NO_FRAME ? -1 : (int)(fake_frame(c, page) / ZONE);
}

static void must_stand(struct fake *w, int client, int nid)
{
	for (uint32_t p = 0; p < NR; p++)
		must_msg(zone_of(w->client[client], p) == nid, "client %d page %u is on node %d",
			 client, p, zone_of(w->client[client], p));
}

static uint64_t failures(const struct fake *w)
{
	uint64_t sum = 0;

	for (int i = 0; i < MOVE_FAILED_NR; i++)
		sum += w->migrated.failed[i];
	return sum;
}

START_TEST(moves_all)
{
	struct fake *w = world(2, 3);
	uint64_t merged = fake_counters(w).total.pages_merged;

	must_stand(w, 0, 0);
	ck_assert_int_eq(engine_migrate(w->e, 0, 1), 0);
	fake_migrate(w);
	for (int i = 0; i < 3; i++) {
		must_stand(w, i, 1);
		ck_assert_uint_eq(fake_vmas(w->client[i]), 0); /* one mapping, as before */
	}
	ck_assert_uint_eq(w->migrated.frames, NR);
	ck_assert_uint_eq(failures(w), 0);
	ck_assert_uint_eq(fake_counters(w).total.pages_merged, merged);
	ck_assert_uint_eq(fake_counters(w).total.pages_migrated, 3 * NR);
	ck_assert_uint_eq(fake_counters(w).frames_retired, NR);
	engine_epoch_free(w->e, engine_epoch(w->e));
	ck_assert_uint_eq(fake_counters(w).frames_used, NR);
	fake_passes(w, 2);
	must_stand(w, 0, 1);
	fake_free(w);
}
END_TEST

/* With a tree for each node, the contents stand on both. */
START_TEST(merges_on_collision)
{
	struct fake *w = repointing(2);
	uint32_t limit = _i ? 3 : 256;

	fake_set(w, KNOB_MERGE_ACROSS_NODES, 0);
	fake_set(w, KNOB_MAX_PAGE_SHARING, limit);
	for (int i = 0; i < 4; i++) {
		struct fake_client *c = fake_client(w, BASE + (uint64_t)i * 0x10000000, NR);

		for (uint32_t p = 0; p < NR; p++)
			c->page[p].nid = (uint8_t)(i / 2);
		fake_fill_unique(c, 0, NR, 1000);
	}
	fake_passes(w, 3);
	must_stand(w, 0, 0);
	must_stand(w, 2, 1);
	ck_assert_uint_eq(fake_counters(w).pages_shared, 2 * NR);
	ck_assert_int_eq(engine_migrate(w->e, 0, 1), 0);
	fake_migrate(w);
	for (int i = 0; i < 4; i++)
		must_stand(w, i, 1);
	/* All on one frame; or three on it, and one on another. */
	ck_assert_uint_eq(fake_counters(w).pages_shared, _i ? 2 * NR : NR);
	ck_assert_uint_eq(fake_counters(w).stable_node_chains, _i ? NR : 0);
	ck_assert_uint_eq(w->migrated.collisions, NR);
	ck_assert_uint_eq(w->migrated.frames, NR);
	fake_passes(w, 2);
	/* Dups that move side by side become one where that is allowed. */
	fake_set(w, KNOB_MAX_PAGE_SHARING, 256);
	ck_assert_int_eq(engine_migrate(w->e, 1, 0), 0);
	fake_migrate(w);
	ck_assert_uint_eq(fake_counters(w).pages_shared, NR);
	ck_assert_uint_eq(fake_counters(w).stable_node_chains, 0);
	fake_free(w);
}
END_TEST

/* Who has written what nobody knows yet is asked in vain, and again; the contents met once. */
START_TEST(meets_once)
{
	struct fake *w = repointing(2);

	fake_set(w, KNOB_MERGE_ACROSS_NODES, 0);
	for (int i = 0; i < 4; i++) {
		struct fake_client *c = fake_client(w, BASE + (uint64_t)i * 0x10000000, NR);

		for (uint32_t p = 0; p < NR; p++)
			c->page[p].nid = (uint8_t)(i / 2);
		fake_fill_unique(c, 0, NR, 1000);
	}
	fake_passes(w, 3);
	for (uint32_t p = 0; p < NR / 2; p++)
		fake_store(w->client[1], p, 5000 + p);
	ck_assert_int_eq(engine_migrate(w->e, 0, 1), 0);
	fake_migrate(w);
	must_stand(w, 0, 1);
	ck_assert_uint_eq(w->migrated.collisions, NR);
	fake_passes(w, 3);
	ck_assert_uint_eq(fake_counters(w).pages_shared, NR);
	fake_free(w);
}
END_TEST

static void write_some(struct fake *w)
{
	for (uint32_t p = 0; p < NR; p += 7)
		fake_store(w->client[1], p, 5000 + p);
}

static void exit_one(struct fake *w)
{
	fake_exit(w->client[1]);
}

static void withdraw_some(struct fake *w)
{
	fake_del(w->client[1], 10, 50);
}

static void exit_all(struct fake *w)
{
	while (w->nr_clients && w->client[0])
		for (int i = w->nr_clients - 1; i >= 0; i--)
			if (w->client[i])
				fake_exit(w->client[i]);
}

static void scan_through(struct fake *w)
{
	int64_t budget = 100000;

	engine_scan(w->e, 1, &budget);
	engine_flush(w->e, ENGINE_FLUSH_ALL);
}

static void opposite(struct fake *w)
{
	ck_assert_int_eq(engine_migrate(w->e, 1, 0), 0);
}

static void end_it(struct fake *w)
{
	engine_migrate_end(w->e, 0);
}

static void free_retired(struct fake *w)
{
	engine_epoch_free(w->e, engine_epoch(w->e));
}

static void (*const meanwhile[])(struct fake *w) = { write_some,   exit_one, withdraw_some,
						     exit_all,     opposite, scan_through,
						     free_retired, end_it };
enum { NR_MEANWHILE = sizeof(meanwhile) / sizeof(meanwhile[0]), WHEN = 4 };

/* While frames are copied; with orders sent; carried out and not answered; answered. */
START_TEST(anything_meanwhile)
{
	void (*fn)(struct fake * w) = meanwhile[_i / WHEN];
	struct fake *w = world(2, 3);

	ck_assert_int_eq(engine_migrate(w->e, 0, 1), 0);
	if (_i % WHEN == 0)
		w->in_write = fn;
	fake_migrate_step(w);
	fake_check(w);
	for (int when = 1; when < WHEN; when++) {
		for (int i = 0; i < w->nr_clients && w->client[i]; i++) {
			if (when == 2)
				fake_agent_run(w->client[i]);
			if (when == 3)
				fake_agent_answer(w->client[i]);
		}
		if (when == _i % WHEN) {
			/* A client that acts has answered what it carried out. */
			if (when == 2 && (fn == withdraw_some || fn == exit_one))
				fake_agent_answer(w->client[1]);
			fn(w);
		}
		fake_check(w);
	}
	fake_migrate(w);
	ck_assert_uint_eq(fake_counters(w).frames_used,
			  fake_counters(w).pages_shared + fake_counters(w).frames_retired);
	fake_passes(w, 3);
	if (fn != opposite && fn != end_it && w->client[2])
		must_stand(w, 2, 1);
	fake_free(w);
}
END_TEST

/* A client that does not answer keeps its pages on the old frames; the others move. */
START_TEST(silent_client)
{
	struct fake *w = world(2, 3);
	uint64_t start = w->now_ms;

	ck_assert_int_eq(engine_migrate(w->e, 0, 1), 0);
	while (fake_migrate_step(w)) {
		for (int i = 0; i < 2; i++) {
			fake_agent_run(w->client[i]);
			fake_agent_answer(w->client[i]);
		}
		fake_check(w);
		w->now_ms += 5;
	}
	ck_assert_uint_lt(w->now_ms - start, 5000);
	must_stand(w, 0, 1);
	must_stand(w, 1, 1);
	must_stand(w, 2, 0);
	ck_assert_uint_eq(w->migrated.failed[MOVE_SILENT], NR);
	ck_assert_uint_eq(w->migrated.culprit.client, w->client[2]->id);
	ck_assert_int_eq(w->migrated.culprit.why, MOVE_SILENT);
	/* Its next answers are right, late as they are. */
	fake_agent_run(w->client[2]);
	fake_agent_answer(w->client[2]);
	fake_check(w);
	must_stand(w, 2, 1);
	ck_assert_int_eq(engine_migrate(w->e, 0, 1), 0);
	fake_migrate(w);
	ck_assert_uint_eq(fake_counters(w).pages_shared, NR);
	fake_free(w);
}
END_TEST

/* No client is asked twice in vain: of 40 nodes' worth of windows only the first waits. */
START_TEST(silence_is_waited_for_once)
{
	struct fake *w = repointing(2);
	uint64_t start;

	for (int i = 0; i < 2; i++)
		fake_fill_unique(fake_client(w, BASE + (uint64_t)i * 0x10000000, 3000), 0, 3000,
				 1000);
	fake_passes(w, 3);
	start = w->now_ms;
	ck_assert_int_eq(engine_migrate(w->e, 0, 1), 0);
	while (fake_migrate_step(w))
		w->now_ms += 5;
	ck_assert_uint_lt(w->now_ms - start, 5000);
	ck_assert_uint_eq(w->migrated.failed[MOVE_SILENT], 3000);
	fake_free(w);
}
END_TEST

START_TEST(no_room)
{
	struct fake *w = world(2, 2);

	w->max_frames = NR + 64 + 10; /* the engine asks for 64 at a time */
	ck_assert_int_eq(engine_migrate(w->e, 0, 1), 0);
	fake_migrate(w);
	ck_assert_uint_gt(w->migrated.failed[MOVE_NO_MEMORY], 0);
	ck_assert_uint_eq(w->migrated.failed[MOVE_NO_MEMORY] + w->migrated.frames, NR);
	w->max_frames = UINT32_MAX;
	engine_epoch_free(w->e, engine_epoch(w->e));
	ck_assert_int_eq(engine_migrate(w->e, 0, 1), 0);
	fake_migrate(w);
	must_stand(w, 0, 1);
	fake_free(w);
}
END_TEST

START_TEST(copy_fails)
{
	struct fake *w = world(2, 2);

	w->write_fails = 1;
	ck_assert_int_eq(engine_migrate(w->e, 0, 1), 0);
	fake_migrate_step(w);
	fake_check(w);
	must_stand(w, 0, 0);
	ck_assert_uint_eq(fake_counters(w).frames_used, NR); /* the new ones were given back */
	fake_migrate(w);                                     /* tries again */
	must_stand(w, 0, 1);
	fake_free(w);
}
END_TEST

/* A page of the contents that comes while there is no node to stand on is not forgotten. */
static void add_sharer(struct fake *w)
{
	int64_t budget = 100000;

	fake_fill_unique(fake_client(w, BASE + 0x70000000, NR), 0, NR, 1000);
	while (!engine_scan(w->e, 1, &budget))
		budget = 100000;
}

START_TEST(sharer_comes_meanwhile)
{
	struct fake *w = world(2, 2);

	ck_assert_int_eq(engine_migrate(w->e, 0, 1), 0);
	w->in_write = add_sharer;
	fake_migrate_step(w);
	fake_check(w);
	fake_migrate(w);
	fake_passes(w, 3);
	for (int i = 0; i < 3; i++)
		must_stand(w, i, 1);
	ck_assert_uint_eq(fake_counters(w).pages_shared, NR);
	fake_free(w);
}
END_TEST

/* What a site was to be merged into goes while other frames are copied. */
static void empty_destination(struct fake *w)
{
	fake_exit(w->client[2]);
	fake_exit(w->client[3]);
}

START_TEST(collision_goes)
{
	struct fake *w = repointing(2);

	fake_set(w, KNOB_MERGE_ACROSS_NODES, 0);
	for (int i = 0; i < 4; i++) {
		struct fake_client *c = fake_client(w, BASE + (uint64_t)i * 0x10000000, NR);

		for (uint32_t p = 0; p < NR; p++)
			c->page[p].nid = (uint8_t)(i / 2);
		fake_fill_unique(c, 0, NR / (i / 2 + 1), 1000); /* half of it stands there */
	}
	fake_passes(w, 3);
	ck_assert_uint_eq(fake_counters(w).pages_shared, NR + NR / 2);
	ck_assert_int_eq(engine_migrate(w->e, 0, 1), 0);
	w->in_write = empty_destination;
	fake_migrate_step(w);
	fake_check(w);
	fake_migrate(w);
	must_stand(w, 0, 1);
	must_stand(w, 1, 1);
	ck_assert_uint_eq(fake_counters(w).pages_shared, NR);
	fake_free(w);
}
END_TEST

/* A frame with one page saves nothing; it is moved nevertheless. */
START_TEST(single_sites)
{
	struct fake *w = world(2, 2);

	fake_exit(w->client[1]);
	ck_assert_int_eq(engine_migrate(w->e, 0, 1), 0);
	fake_migrate(w);
	must_stand(w, 0, 1);
	ck_assert_uint_eq(w->migrated.frames, NR);
	fake_free(w);
}
END_TEST

/* Orders that a client cannot take now are forgotten, as before an unmerge; sites stay sites. */
START_TEST(orders_cancelled)
{
	struct fake *w = world(2, 2);

	w->client[0]->full = w->client[1]->full = true;
	ck_assert_int_eq(engine_migrate(w->e, 0, 1), 0);
	fake_migrate_step(w); /* the kernel is asked, in vain */
	fake_migrate_step(w);
	ck_assert_uint_eq(engine_nr_orders(w->e), 2 * NR);
	engine_cancel_orders(w->e);
	fake_check(w);
	ck_assert_uint_eq(engine_nr_orders(w->e), 0);
	ck_assert_uint_eq(fake_counters(w).pages_sharing, NR);
	w->client[0]->full = w->client[1]->full = false;
	fake_migrate(w);
	must_stand(w, 0, 1);
	fake_free(w);
}
END_TEST

START_TEST(bad_input)
{
	struct fake *w = world(2, 2);

	ck_assert_int_eq(engine_migrate(w->e, 0, 0), -EINVAL);
	ck_assert_int_eq(engine_migrate(w->e, 0, 2), -EINVAL);
	ck_assert_int_eq(engine_migrate(w->e, 2, 0), -EINVAL);
	ck_assert_int_eq(engine_migrate(w->e, -1, 0), -EINVAL);
	ck_assert_int_eq(fake_migrate_step(w), 0);
	ck_assert_int_eq(engine_migrate(w->e, 0, 1), 0);
	ck_assert_int_eq(engine_migrate(w->e, 0, 1), -EALREADY);
	fake_migrate(w);
	fake_free(w);
}
END_TEST

/* Isolated exactly once: of two movers the second finds nothing to take. */
START_TEST(isolated_once)
{
	struct fake *w = world(2, 2);
	struct stable *s;
	uint32_t node;

	engine_lock(w->e);
	s = &w->e->stable;
	node = pool_word(&w->e->pool, fake_frame(w->client[0], 0));
	ck_assert(stable_isolate(s, node));
	ck_assert(!stable_isolate(s, node));
	stable_putback(s, node);
	ck_assert(stable_isolate(s, node));
	stable_putback(s, node);
	engine_unlock(w->e);
	fake_check(w);
	fake_free(w);
}
END_TEST

Suite *suite_migrate(void)
{
	Suite *s = suite_create("migrate");
	TCase *tc = engine_case("migrate");

	tcase_add_test(tc, moves_all);
	tcase_add_loop_test(tc, merges_on_collision, 0, 2);
	tcase_add_test(tc, meets_once);
	tcase_add_loop_test(tc, anything_meanwhile, 0, NR_MEANWHILE * WHEN);
	tcase_add_test(tc, silent_client);
	tcase_add_test(tc, silence_is_waited_for_once);
	tcase_add_test(tc, no_room);
	tcase_add_test(tc, copy_fails);
	tcase_add_test(tc, sharer_comes_meanwhile);
	tcase_add_test(tc, collision_goes);
	tcase_add_test(tc, single_sites);
	tcase_add_test(tc, orders_cancelled);
	tcase_add_test(tc, bad_input);
	tcase_add_test(tc, isolated_once);
	suite_add_tcase(s, tc);
	return s;
}
