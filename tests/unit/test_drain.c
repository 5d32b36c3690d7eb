/* SPDX-License-Identifier: MIT */
/*
 * test_drain.c - frames taken out of use while clients stand on them. fake_check() holds every byte
 * and every count after each step.
 */
#include "fake.h"
#include "suites.h"

#include <errno.h>
#include <string.h>

#include "engine/core.h"
#include "engine/settle.h"

enum { ZONE = 4096, NR = FAKE_CROWD_PAGES, BLOCK = PAGEBLOCK_FRAMES };
#define BASE FAKE_CROWD_BASE

static struct fake *world(int nodes, int clients)
{
	return fake_crowd(nodes, ZONE, clients);
}

/* First frame of the pageblock that page 0 stands in. */
static uint32_t block_of(const struct fake *w)
{
	return fake_frame(w->client[0], 0) / BLOCK * BLOCK;
}

#define PATIENCE_MS 15000 /* as docs/man/ksmd-user.8 says */
#define LAST_MS (8 * PATIENCE_MS)

static int offline(struct fake *w, uint32_t first, uint32_t end, int to)
{
	uint32_t frame;

	return engine_offline(w->e, (int)(first / ZONE), first, end, to, &frame);
}

/* Carry it on; agents answer, and grace periods end, if the test says so. */
static void drain(struct fake *w, bool answers, bool grace)
{
	uint64_t start = w->now_ms;

	while (fake_drain_step(w)) {
		fake_check(w);
		if (answers)
			fake_answer_all(w);
		if (grace)
			engine_epoch_free(w->e, engine_epoch(w->e));
		fake_check(w);
		w->now_ms += 5;
		ck_assert_uint_lt(w->now_ms - start, 40000);
	}
	fake_check(w);
}

/* Frames of a range that are used or retired. */
static int used_in(struct fake *w, uint32_t first, uint32_t end)
{
	int nr = 0;

	engine_lock(w->e);
	for (uint32_t f = first; f < end; f++)
		nr += pool_is_used(&w->e->pool, f);
	engine_unlock(w->e);
	return nr;
}

static void must_be_in_use(struct fake *w)
{
	struct pool_counts c;

	for (int nid = 0; nid < w->nr_nodes; nid++) {
		engine_zone_counts(w->e, nid, &c);
		ck_assert_uint_eq(c.isolated, 0);
		ck_assert_uint_eq(c.offline, 0);
	}
}

/* A pageblock that pages stand on, mostly a window: all go elsewhere in the zone. */
START_TEST(one_pageblock)
{
	struct fake *w = world(1, 3);
	uint32_t first = block_of(w);
	struct pool_counts c;

	ck_assert_int_eq(used_in(w, first, first + BLOCK), NR);
	ck_assert_int_eq(offline(w, first, first + BLOCK, 0), 0);
	drain(w, true, true);
	ck_assert_int_eq(w->drained.err, 0);
	ck_assert_uint_eq(w->drained.moved.frames, NR);
	ck_assert_int_eq(used_in(w, first, first + BLOCK), 0);
	for (int i = 0; i < 3; i++) {
		ck_assert_uint_ne(fake_frame(w->client[i], 0), FAKE_NO_FRAME);
		ck_assert_uint_eq(fake_vmas(w->client[i]), 0);
	}
	engine_zone_counts(w->e, 0, &c);
	ck_assert_uint_eq(c.offline, 1);
	ck_assert_uint_eq(c.isolated, 0);
	/* Nothing comes there, however much is merged; and again once it is in use. */
	for (int i = 0; i < 2; i++) {
		uint64_t base = BASE + 0x20000000 + (uint64_t)i * 0x10000000;

		fake_exit(w->client[i]);
		fake_fill_unique(fake_client(w, base, 3 * BLOCK), 0, 3 * BLOCK, 1 << 20);
	}
	fake_passes(w, 3);
	ck_assert_int_eq(used_in(w, first, first + BLOCK), 0);
	ck_assert_int_eq(offline(w, first, first + BLOCK, 0), -EBUSY);
	ck_assert_int_eq(engine_online(w->e, 0, first, first + BLOCK), 0);
	must_be_in_use(w);
	ck_assert_int_eq(offline(w, first, first + BLOCK, 0), 0);
	drain(w, true, true);
	ck_assert_int_eq(w->drained.err, 0);
	fake_free(w);
}
END_TEST

/* Pages that are written, withdrawn and merged meanwhile. */
static void disturb(struct fake *w)
{
	int64_t budget = 1000;
	struct fake_client *c = w->client[fake_rand(&w->rng) % (uint64_t)w->nr_clients];
	uint32_t page = (uint32_t)(fake_rand(&w->rng) % NR);

	if (!c)
		return;
	switch (fake_rand(&w->rng) % 4) {
	case 0:
		fake_store(c, page, 1000 + page);
		break;
	case 1:
		fake_store(c, page, 5000 + page);
		break;
	case 2:
		fake_dontneed(c, page, 1);
		break;
	default:
		engine_scan(w->e, 0, &budget);
		engine_flush(w->e, ENGINE_FLUSH_ALL);
	}
}

START_TEST(whole_zone)
{
	struct fake *w = world(2, 4);

	ck_assert_int_eq(offline(w, 0, ZONE, 0), -EINVAL); /* there is no room in itself */
	ck_assert_int_eq(offline(w, 0, ZONE, 1), 0);
	while (fake_drain_step(w)) {
		for (int i = 0; _i && i < 10; i++) {
			fake_answer_all(w);
			disturb(w);
		}
		fake_check(w);
		fake_answer_all(w);
		engine_epoch_free(w->e, engine_epoch(w->e));
		fake_check(w);
		w->now_ms += 5;
	}
	ck_assert_int_eq(w->drained.err, 0);
	ck_assert_int_eq(used_in(w, 0, ZONE), 0);
	fake_passes(w, 3);
	ck_assert_int_eq(used_in(w, 0, ZONE), 0);
	ck_assert_int_eq(engine_online(w->e, 0, 0, ZONE), 0);
	must_be_in_use(w);
	fake_free(w);
}
END_TEST

/* Pages merge whenever the mover has no lock, and take frames. */
static void merge_more(struct fake *w)
{
	static uint64_t calls;
	int64_t budget = 1000;

	/* They have to rest for a while. */
	for (int i = 0; calls % 6 == 0 && i < w->nr_clients; i++)
		fake_fill_unique(w->client[i], NR / 2, NR / 2, (1 << 20) + calls * NR);
	calls++;
	w->in_write = NULL; /* it writes frames, too */
	engine_scan(w->e, 0, &budget);
	engine_flush(w->e, ENGINE_FLUSH_ALL);
	w->in_write = merge_more;
}

/* A frame that has become free is not taken again: the range never fills, and it ends. */
START_TEST(taken_again)
{
	struct fake *w = world(1, 3);
	uint32_t first = block_of(w);
	uint64_t start = w->now_ms, writes = w->writes;
	int left = used_in(w, first, first + BLOCK);

	ck_assert_int_eq(offline(w, first, first + BLOCK, 0), 0);
	merge_more(w);
	while (fake_drain_step(w)) {
		int now = used_in(w, first, first + BLOCK);

		ck_assert_int_le(now, left);
		left = now;
		fake_check(w);
		fake_answer_all(w);
		merge_more(w);
		engine_epoch_free(w->e, engine_epoch(w->e));
		fake_check(w);
		w->now_ms += 5;
		ck_assert_uint_lt(w->now_ms - start, 16000); /* promised: 15 s */
	}
	w->in_write = NULL;
	ck_assert_int_eq(w->drained.err, 0);
	ck_assert_uint_gt(w->writes, writes);
	fake_free(w);
}
END_TEST

/* Where one pageblock of a range is out of use already, the windows in the others stay. */
START_TEST(refused_keeps_windows)
{
	struct fake *w = world(1, 3);
	uint32_t first = block_of(w), other = first ? first - BLOCK : BLOCK, a, b;
	struct pool_counts before, after;

	ck_assert_int_eq(offline(w, other, other + BLOCK, 0), 0);
	drain(w, true, true);
	ck_assert_int_eq(w->drained.err, 0);
	engine_zone_counts(w->e, 0, &before);
	ck_assert_uint_gt(before.window, 0);
	a = other < first ? other : first;
	b = other < first ? first : other;
	ck_assert_int_eq(offline(w, a, b + BLOCK, 0), -EBUSY);
	engine_zone_counts(w->e, 0, &after);
	ck_assert_mem_eq(&before, &after, sizeof(before));
	fake_check(w);
	fake_free(w);
}
END_TEST

/* What cannot go in time is named, and all is as before. */
START_TEST(who_keeps_it)
{
	struct fake *w = world(1, 2);
	uint32_t first = block_of(w);
	bool answers = _i, grace = !_i;

	ck_assert_int_eq(offline(w, first, first + BLOCK, 0), 0);
	drain(w, answers, grace);
	ck_assert_int_eq(w->drained.err, -EBUSY);
	if (_i) {
		ck_assert_int_eq(strncmp(w->drained.why, "retired", 7), 0);
	} else {
		ck_assert_int_eq(w->drained.culprit.why, MOVE_SILENT);
		ck_assert_uint_eq(w->drained.culprit.client, w->client[0]->id);
	}
	ck_assert_uint_ge(w->drained.culprit.frame, first);
	ck_assert_uint_lt(w->drained.culprit.frame, first + BLOCK);
	must_be_in_use(w);
	fake_answer_all(w);
	fake_passes(w, 3);
	ck_assert_int_eq(offline(w, first, first + BLOCK, 0), 0);
	drain(w, true, true);
	ck_assert_int_eq(w->drained.err, 0);
	fake_free(w);
}
END_TEST

/* The first frame whose bytes are being written. */
static uint32_t frame_filling(struct fake *w)
{
	uint32_t f, node = POOL_NONE, end = (uint32_t)pool_nr_frames(&w->e->pool);

	engine_lock(w->e);
	for (f = pool_next_used(&w->e->pool, 0, end); f != POOL_NONE;
	     f = pool_next_used(&w->e->pool, f + 1, end)) {
		node = pool_word(&w->e->pool, f);
		if (node != POOL_NONE &&
		    stable_node(&w->e->stable, node)->filling == STABLE_FILLING)
			break;
	}
	engine_unlock(w->e);
	return f;
}

static uint32_t filling; /* that drain_meanwhile() found */

/* While frames get their bytes a range with them is to be emptied, and the writing takes longer. */
static void drain_meanwhile(struct fake *w)
{
	uint64_t start = w->now_ms;
	uint32_t first;

	filling = frame_filling(w);
	ck_assert_uint_ne(filling, POOL_NONE);
	first = filling / BLOCK * BLOCK;
	ck_assert_int_eq(offline(w, filling, filling + 1, 0), -EINVAL);
	ck_assert_int_eq(offline(w, first, first + BLOCK, 0), 0);
	while (fake_drain_step(w)) {
		fake_answer_all(w);
		w->now_ms += 50;
		ck_assert_uint_le(w->now_ms - start, LAST_MS + 1000);
	}
}

/* Nothing can be done about a frame that is being filled but to wait; then it is named. */
START_TEST(being_filled)
{
	struct fake *w = world(1, 2);
	uint32_t first;

	for (int i = 0; i < 2; i++)
		fake_fill_unique(w->client[i], 0, NR, 1 << 20);
	filling = POOL_NONE;
	w->in_write = drain_meanwhile;
	fake_passes(w, 3);
	ck_assert_uint_ne(filling, POOL_NONE);
	ck_assert_int_eq(w->drained.err, -EBUSY);
	ck_assert_uint_eq(w->drained.culprit.frame, filling);
	ck_assert_int_eq(w->drained.culprit.why, MOVE_NOT_FAILED);
	ck_assert_str_eq(w->drained.why, "in use");
	must_be_in_use(w);
	first = filling / BLOCK * BLOCK;
	ck_assert_int_gt(used_in(w, first, first + BLOCK), 0);
	ck_assert_int_eq(offline(w, first, first + BLOCK, 0), 0);
	drain(w, true, true);
	ck_assert_int_eq(w->drained.err, 0);
	fake_free(w);
}
END_TEST

/*
 * A client that is slow, or lets go of one page now and then. As long as frames leave it goes on,
 * until all have left; but not for ever.
 */
START_TEST(slow_is_not_stuck)
{
	const uint64_t pause_ms = _i ? PATIENCE_MS - 2000 : 1000;
	struct fake *w = world(1, 2);
	uint32_t first = block_of(w), page = 0;
	uint64_t start = w->now_ms, next = start;

	ck_assert_int_eq(offline(w, first, first + BLOCK, 0), 0);
	while (fake_drain_step(w)) {
		if (w->now_ms >= next && page < NR) {
			for (int i = 0; i < 2; i++)
				fake_dontneed(w->client[i], page, 1);
			page++;
			next = w->now_ms + pause_ms;
		}
		engine_epoch_free(w->e, engine_epoch(w->e));
		fake_check(w);
		w->now_ms += 50;
		ck_assert_uint_le(w->now_ms - start, LAST_MS + 1000);
	}
	ck_assert_uint_gt(w->now_ms - start, 2 * PATIENCE_MS);
	ck_assert_int_eq(w->drained.err, _i ? -EBUSY : 0);
	if (_i)
		ck_assert_uint_ge(w->now_ms - start, LAST_MS);
	else
		ck_assert_uint_eq(page, NR);
	fake_free(w);
}
END_TEST

START_TEST(cancelled)
{
	struct fake *w = world(1, 2);
	uint32_t first = block_of(w);

	ck_assert_int_eq(offline(w, first, first + BLOCK, 0), 0);
	for (int i = 0; i < _i; i++)
		fake_drain_step(w);
	engine_drain_end(w->e, 0);
	drain(w, true, true);
	ck_assert_int_eq(w->drained.err, -ECANCELED);
	must_be_in_use(w);
	fake_passes(w, 2);
	fake_free(w);
}
END_TEST

/* There is no room for new frames beside the old ones. */
START_TEST(no_room)
{
	struct fake *w = world(1, 2);
	uint32_t first = block_of(w);

	w->max_frames = NR;
	ck_assert_int_eq(offline(w, first, first + BLOCK, 0), 0);
	drain(w, true, false);
	ck_assert_int_eq(w->drained.err, -ENOMEM);
	must_be_in_use(w);
	fake_free(w);
}
END_TEST

/* Both the range that one drains and the node are taken. */
START_TEST(bad_input)
{
	struct fake *w = world(2, 2);
	uint32_t first = block_of(w);

	ck_assert_int_eq(offline(w, first, first, 0), -EINVAL);
	ck_assert_int_eq(offline(w, first + BLOCK, first, 0), -EINVAL);
	ck_assert_int_eq(offline(w, first, first + BLOCK - 1, 0), -EINVAL);
	ck_assert_int_eq(offline(w, first + 1, first + BLOCK + 1, 0), -EINVAL);
	ck_assert_int_eq(offline(w, ZONE - BLOCK, ZONE + BLOCK, 0), -EINVAL);
	ck_assert_int_eq(offline(w, first, first + BLOCK, 2), -EINVAL);
	ck_assert_int_eq(offline(w, 2 * ZONE, 2 * ZONE + BLOCK, 0), -EINVAL);
	ck_assert_int_eq(engine_online(w->e, 0, ZONE, ZONE + BLOCK), -EINVAL);
	ck_assert_int_eq(engine_online(w->e, 0, 5, 5), -EINVAL);
	ck_assert_int_eq(engine_migrate(w->e, 0, 1), 0);
	ck_assert_int_eq(offline(w, first, first + BLOCK, 0), -EALREADY);
	fake_migrate(w);
	ck_assert_int_eq(offline(w, first, first + BLOCK, 0), 0);
	ck_assert_int_eq(offline(w, first, first + BLOCK, 0), -EALREADY);
	ck_assert_int_eq(engine_migrate(w->e, 0, 1), -EALREADY);
	drain(w, true, true);
	fake_free(w);
}
END_TEST

Suite *suite_drain(void)
{
	Suite *s = suite_create("drain");
	TCase *tc = engine_case("drain");

	tcase_add_test(tc, one_pageblock);
	tcase_add_loop_test(tc, whole_zone, 0, 2);
	tcase_add_test(tc, taken_again);
	tcase_add_loop_test(tc, slow_is_not_stuck, 0, 2);
	tcase_add_test(tc, refused_keeps_windows);
	tcase_add_loop_test(tc, who_keeps_it, 0, 2);
	tcase_add_test(tc, being_filled);
	tcase_add_loop_test(tc, cancelled, 0, 4);
	tcase_add_test(tc, no_room);
	tcase_add_test(tc, bad_input);
	suite_add_tcase(s, tc);
	return s;
}
