/* SPDX-License-Identifier: MIT */
/*
 * test_gather.c - frames are brought next to each other where pages of clients are. fake_check()
 * holds every byte and every count after each step; mappings are counted from the clients' pages.
 */
#include "fake.h"
#include "suites.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/core.h"
#include "engine/relocation.h"
#include "engine/settle.h"

enum { ZONE = 32 * PAGEBLOCK_FRAMES, NR = 4 * PAGEBLOCK_FRAMES };
#define BASE 0x7f0000000000ull

static struct fake_client *client(struct fake *w, int i, uint32_t nr)
{
	return fake_client(w, BASE + (uint64_t)i * 0x10000000, nr);
}

/* The numbers below nr in an order of this key; key 0: as they are. The caller frees it. */
static uint32_t *order_of(uint32_t nr, uint64_t key)
{
	uint32_t *v = malloc(nr * sizeof(*v));

	for (uint32_t i = 0; i < nr; i++)
		v[i] = i;
	for (uint32_t i = nr; key && i > 1; i--) {
		uint32_t k = (uint32_t)(fake_rand(&key) % i), t = v[k];

		v[k] = v[i - 1];
		v[i - 1] = t;
	}
	return v;
}

/* The same nr contents for each key, in an order of its own. */
static void fill(struct fake_client *c, uint32_t nr, uint64_t key)
{
	uint32_t *v = order_of(nr, key);

	for (uint32_t i = 0; i < nr; i++)
		fake_store(c, i, 1000 + v[i]);
	free(v);
}

/*
 * `nr` clients with the same contents, those from `other` on in another order. The first ones have
 * found their frames before these came, and end then.
 */
static struct fake *order_has_gone(int nr_nodes, int nr, uint32_t piece)
{
	struct fake *w = fake_new(nr_nodes, ZONE, 0);

	for (int i = 0; i < nr + 2; i++) {
		struct fake_client *c = client(w, i, NR);

		if (i == 2)
			fake_passes(w, 3);
		if (i < 2 || piece == 1)
			fill(c, NR, i < 2 ? 0 : 1);
		for (uint32_t p = 0; i >= 2 && piece > 1 && p < NR; p++)
			fake_store(c, p,
				   1000 + (p / piece * 37 + 5) % (NR / piece) * piece + p % piece);
	}
	fake_passes(w, 3);
	for (int i = 0; i < 2; i++)
		fake_exit(w->client[i]);
	fake_passes(w, 1);
	engine_epoch_free(w->e, engine_epoch(w->e));
	return w;
}

static uint64_t all_vmas(const struct fake *w)
{
	uint64_t nr = 0;

	for (int i = 0; i < w->nr_clients; i++)
		nr += w->client[i] ? fake_vmas(w->client[i]) : 0;
	return nr;
}

static void answer_all(struct fake *w)
{
	for (int i = 0; i < w->nr_clients; i++)
		if (w->client[i]) {
			fake_agent_run(w->client[i]);
			fake_agent_answer(w->client[i]);
		}
}

/* Carry it on; mappings are never more than at the start, but for what a block's edge costs. */
static void carry_on(struct fake *w, bool answers)
{
	uint64_t start = w->now_ms, most = all_vmas(w);

	while (fake_compact_step(w)) {
		fake_check(w);
		if (answers)
			answer_all(w);
		engine_epoch_free(w->e, engine_epoch(w->e));
		fake_check(w);
		ck_assert_uint_le(all_vmas(w), most + 16);
		w->now_ms += 5;
		ck_assert_uint_lt(w->now_ms - start, 600000);
	}
	fake_check(w);
	ck_assert_uint_eq(w->compacted.vmas_after, all_vmas(w));
}

static void gather(struct fake *w, enum engine_compact how)
{
	ck_assert_int_eq(engine_compact(w->e, 0, how), 0);
	carry_on(w, true);
}

/*
 * Two clients, each in a random order of its own: a frame has one neighbour, so it can suit one of
 * them, and the other needs a mapping for each page. That is what is reached.
 */
START_TEST(two_orders)
{
	struct fake *w = fake_new(1, ZONE, 0);
	uint64_t before, seed = fake_seed();

	for (int i = 0; i < 4; i++) {
		fill(client(w, i, NR), i < 2 ? NR / 2 : NR, i < 2 ? 0 : seed + (uint64_t)i);
		if (i == 1)
			fake_passes(w, 3);
	}
	fake_passes(w, 3);
	fake_exit(w->client[0]);
	fake_exit(w->client[1]);
	fake_passes(w, 1);
	engine_epoch_free(w->e, engine_epoch(w->e));
	before = all_vmas(w);
	gather(w, COMPACT_RESTING);
	printf("two orders: %llu mappings, then %llu; %llu frames of %d\n",
	       (unsigned long long)before, (unsigned long long)all_vmas(w),
	       (unsigned long long)w->compacted.gathered, NR);
	ck_assert_uint_lt(all_vmas(w), before);
	ck_assert_uint_le(all_vmas(w), NR + NR / 8);
	ck_assert_uint_eq(fake_counters(w).pages_sharing, NR);
	/* Once more: nothing pays. */
	before = all_vmas(w);
	gather(w, COMPACT_RESTING);
	ck_assert_uint_le(all_vmas(w), before);
	fake_free(w);
}
END_TEST

/* The oldest client's order is nobody's any more. The others have one in common. */
START_TEST(order_of_who_left)
{
	struct fake *w = order_has_gone(1, 2, 1);

	ck_assert_uint_ge(all_vmas(w), NR);
	ck_assert(engine_wants_gathering(w->e, 0));
	gather(w, _i ? COMPACT_ALL : COMPACT_RESTING);
	ck_assert_uint_le(all_vmas(w), 2 * NR / PAGEBLOCK_FRAMES);
	ck_assert_uint_eq(w->compacted.merged_after, 2 * NR);
	ck_assert_uint_eq(fake_counters(w).pages_shared, NR);
	ck_assert_uint_eq(fake_counters(w).frames_used, NR);
	ck_assert(!engine_wants_gathering(w->e, 0));
	fake_free(w);
}
END_TEST

/*
 * A run stands so low that its stretch would begin before the first frame. There is no such place:
 * numbers below zero look like the largest ones, and the one before the first like no frame at all.
 */
START_TEST(below_the_first)
{
	enum { AT = 300, RUN = 20, TWICE = RUN + 5 };
	struct fake *w = fake_new(1, ZONE, 0);

	for (int i = 0; i < 2; i++)
		fake_fill_unique(client(w, i, PAGEBLOCK_FRAMES), 0, 2 * RUN, 1000);
	fake_passes(w, 3);
	ck_assert_uint_eq(fake_frame(w->client[0], 0), 0);
	ck_assert_uint_eq(fake_frame(w->client[0], TWICE), TWICE);
	for (int i = 2; i < 4; i++) {
		fake_fill_unique(client(w, i, PAGEBLOCK_FRAMES), AT, RUN, 1000);
		fake_store(w->client[i], AT - 1, 1000 + TWICE);
		fake_store(w->client[i], AT + RUN, 1000 + TWICE);
	}
	fake_passes(w, 3);
	for (int i = 0; i < 2; i++)
		fake_exit(w->client[i]);
	fake_passes(w, 1);
	ck_assert_uint_eq(fake_frame(w->client[2], AT), 0);
	ck_assert_uint_eq(fake_frame(w->client[2], AT - 1), fake_frame(w->client[2], AT + RUN));
	gather(w, COMPACT_RESTING);
	ck_assert_uint_eq(fake_frame(w->client[2], AT - 1), fake_frame(w->client[2], AT + RUN));
	fake_free(w);
}
END_TEST

/*
 * What it would cost that one frame leaves its neighbours: two mappings of the client for which it
 * stands between them, one of the other. The price that is expected counts the loss of whoever
 * needs more mappings for its pages half, and everything else in full.
 */
START_TEST(price)
{
	enum { FEW = 8 };
	struct fake *w = fake_new(1, ZONE, 0);
	struct fake_client *a = client(w, 0, 64), *b = client(w, 1, 64);
	struct relocation away = { .nr = 0 }, *way = &away;
	struct relocation_price p;
	uint32_t f;

	fake_fill_unique(a, 0, FEW, 1000);
	fake_fill_unique(b, 0, 2, 1000);
	for (uint32_t i = 2; i < FEW; i++)
		fake_store(b, 8 * i, 1000 + i);
	fake_passes(w, 3);
	f = fake_frame(a, 0);
	for (uint32_t i = 0; i < FEW; i++)
		ck_assert_uint_eq(fake_frame(a, i), f + i);
	relocation_add(way, f + 1, f + 100);
	engine_lock(w->e);
	p = relocation_price(w->e, way, 0, 1, a->mm);
	ck_assert_int_eq(p.more, 3);
	ck_assert_int_eq(p.expected, 2 * 2 + 1);
	ck_assert_uint_eq(p.sites, 2);
	ck_assert(!p.refused && !p.too_many);
	p = relocation_price(w->e, way, 0, 1, b->mm);
	ck_assert_int_eq(p.more, 3);
	ck_assert_int_eq(p.expected, 2 * 3);
	p = relocation_price(w->e, way, 0, 1, NULL);
	ck_assert_int_eq(p.expected, 2 * 3);
	/* Back again, as if it had gone: what was lost is saved. */
	relocation_add(way, f + 2, f + 101);
	p = relocation_price(w->e, way, 1, 2, a->mm);
	ck_assert_int_eq(p.more, 0); /* it joins the one, and parts from the other */
	ck_assert_int_eq(p.expected, 0);
	engine_unlock(w->e);
	/* Whoever is short of mappings would refuse. */
	engine_mm_set_vmas(b->mm, 1000, 1000);
	engine_lock(w->e);
	p = relocation_price(w->e, way, 0, 1, a->mm);
	ck_assert(p.refused);
	engine_unlock(w->e);
	fake_free(w);
}
END_TEST

/* One of two is in order: as good as it can be. Clones: better still. Nothing is begun. */
START_TEST(would_not_pay)
{
	struct fake *w = fake_new(1, ZONE, 0);
	uint64_t copies;

	for (int i = 0; i < 3; i++)
		fill(client(w, i, NR), NR, _i && i > 1);
	fake_passes(w, 3);
	copies = w->copies;
	gather(w, COMPACT_RESTING);
	ck_assert_uint_eq(w->compacted.gathered, 0);
	ck_assert_uint_eq(w->copies, copies);
	if (_i)
		ck_assert_uint_gt(w->compacted.stretches_skipped, 0);
	fake_free(w);
}
END_TEST

/*
 * Pieces in order, apart from each other. Small ones are brought together. With large ones hundreds
 * of pages would have to change their frame for each mapping less, so they stay.
 */
START_TEST(pieces)
{
	struct fake *w = order_has_gone(1, 2, _i ? 128 : 8);
	uint64_t before = all_vmas(w), copies = w->copies;

	gather(w, COMPACT_RESTING);
	printf("pieces: %llu mappings, then %llu\n", (unsigned long long)before,
	       (unsigned long long)all_vmas(w));
	if (_i) {
		ck_assert_uint_eq(w->copies, copies);
		ck_assert_uint_gt(w->compacted.stretches_skipped, 0);
		ck_assert_uint_eq(all_vmas(w), before);
	} else {
		ck_assert_uint_le(all_vmas(w), before / 4);
	}
	fake_free(w);
}
END_TEST

/* Writes, passes and exits come meanwhile, and agents refuse: contents and counts are right. */
START_TEST(while_clients_go_on)
{
	struct fake *w = fake_new(1, ZONE, 0);
	uint64_t seed = fake_seed();

	w->rng = seed;
	for (int i = 0; i < 4; i++)
		fill(client(w, i, NR), NR, i > 0 ? seed + (uint64_t)(i / 2) : 0);
	fake_passes(w, 3);
	fake_exit(w->client[0]);
	w->fail_percent = _i * 20;
	ck_assert_int_eq(engine_compact(w->e, 0, _i % 2 ? COMPACT_ALL : COMPACT_RESTING), 0);
	for (int n = 0; fake_compact_step(w); n++) {
		struct fake_client *c = w->client[1 + fake_rand(&w->rng) % 3];
		int64_t budget = 500;

		fake_check(w);
		answer_all(w);
		if (c)
			fake_store(c, (uint32_t)(fake_rand(&w->rng) % NR),
				   1000 + fake_rand(&w->rng) % NR);
		if (n % 3 == 0) {
			engine_scan(w->e, 0, &budget);
			engine_flush(w->e, ENGINE_FLUSH_ALL);
		}
		if (_i == 2 && n == 7)
			fake_exit(w->client[2]);
		fake_check(w);
		if (n % 2)
			engine_epoch_free(w->e, engine_epoch(w->e));
		w->now_ms += 5;
	}
	w->fail_percent = 0;
	fake_passes(w, 3);
	fake_free(w);
}
END_TEST

/* What stands twice becomes one, as the daemon has it. */
static void merge_twins(struct fake *w)
{
	for (int i = 0; engine_wants_twins(w->e); i++) {
		ck_assert_int_lt(i, STABLE_MEET_TRIES);
		ck_assert_int_eq(engine_migrate_twins(w->e), 0);
		fake_migrate(w);
	}
	ck_assert_uint_eq(fake_counters(w).pages_shared, NR);
	ck_assert_uint_eq(fake_counters(w).pages_sharing, NR);
}

/* A client at its limit gets no mapping more, at no moment; one that is silent keeps nobody. */
START_TEST(budget_and_silence)
{
	struct fake *w = order_has_gone(1, 2, 1);
	uint64_t limit;

	limit = fake_vmas(w->client[3]);
	engine_mm_set_vmas(w->client[3]->mm, (uint32_t)limit, (uint32_t)(2 * limit));
	ck_assert_int_eq(engine_compact(w->e, 0, COMPACT_RESTING), 0);
	for (int n = 0; fake_compact_step(w); n++) {
		fake_check(w);
		if (_i) {
			fake_agent_run(w->client[2]);
			fake_agent_answer(w->client[2]);
		} else {
			answer_all(w);
		}
		ck_assert_uint_le(fake_vmas(w->client[3]), limit);
		w->now_ms += 50;
		ck_assert_int_lt(n, 20000);
	}
	/* What the silent one did not follow stands twice, until it answers again. */
	if (_i)
		ck_assert_uint_gt(fake_counters(w).pages_shared, NR);
	ck_assert_int_eq(engine_wants_twins(w->e), _i);
	if (_i)
		w->client[3]->changes++; /* its late answers are that it could not */
	merge_twins(w);
	fake_passes(w, 2);
	fake_free(w);
}
END_TEST

/*
 * While frames are gathered one client's memory moves: the engine forgets its pages, so the frames
 * they stand on have no page left, and are retired. Then it hears where the pages are now.
 */
START_TEST(moves_meanwhile)
{
	struct fake *w = order_has_gone(1, 2, 1);
	struct fake_client *c = w->client[3];
	uint64_t bytes = NR * (uint64_t)KSM_PAGE_SIZE;

	ck_assert_int_eq(engine_compact(w->e, 0, COMPACT_RESTING), 0);
	for (int n = 0; fake_compact_step(w); n++) {
		fake_agent_run(w->client[2]);
		fake_agent_answer(w->client[2]);
		if (c->nr_orders)
			ck_assert_int_eq(engine_region_forget(c->mm, c->base, c->base + bytes), 0);
		c->changes++;
		w->now_ms += 50;
		ck_assert_int_lt(n, 20000);
	}
	answer_all(w);
	for (uint32_t p = 0; p < NR; p++)
		ck_assert_int_eq(engine_adopt(c->mm, c->base + p * (uint64_t)KSM_PAGE_SIZE, 1,
					      fake_frame(c, p)),
				 0);
	fake_check(w);
	ck_assert_uint_gt(fake_counters(w).pages_shared, NR);
	merge_twins(w);
	fake_passes(w, 2);
	fake_free(w);
}
END_TEST

/*
 * Half of the frames stand in the order of one client, the others in that of another. Whichever
 * stretch goes first parts as many pages of the other as it joins, so it has to be done as if more
 * were to follow; and yet no step may need more mappings than were saved before.
 */
START_TEST(half_of_the_order_each)
{
	struct fake *w = fake_new(1, ZONE, 0);
	uint32_t *order[2] = { order_of(NR, 1), order_of(NR, 2) };
	bool first[NR] = { false };
	uint64_t before;

	for (int i = 0; i < 4; i++)
		client(w, i, NR);
	for (uint32_t p = 0; p < NR / 2; p++)
		first[order[0][p]] = true;
	for (int half = 0; half < 2; half++) {
		for (uint32_t p = 0; p < NR; p++)
			for (int i = half; first[order[half][p]] != half && i < 4; i += 2)
				fake_store(w->client[i], p, 1000 + order[half][p]);
		fake_passes(w, 3);
	}
	for (int i = 2; i < 4; i++)
		for (uint32_t p = 0; p < NR; p++)
			fake_store(w->client[i], p, 1000 + order[i - 2][p]);
	fake_passes(w, 3);
	fake_exit(w->client[0]);
	fake_exit(w->client[1]);
	fake_passes(w, 1);
	engine_epoch_free(w->e, engine_epoch(w->e));
	ck_assert_uint_eq(fake_counters(w).pages_shared, NR);
	before = all_vmas(w);
	gather(w, COMPACT_RESTING);
	printf("half of the order each: %llu mappings, then %llu\n", (unsigned long long)before,
	       (unsigned long long)all_vmas(w));
	ck_assert_uint_le(all_vmas(w), NR + NR / 16);
	ck_assert_uint_eq(fake_counters(w).pages_shared, NR);
	free(order[0]);
	free(order[1]);
	fake_free(w);
}
END_TEST

/*
 * Two orders, half of the frames in each, and no client may have a mapping more: what one of them
 * needs is not taken from the other, and no page is left behind on the old frame.
 */
START_TEST(nobody_pays_who_cannot)
{
	struct fake *w = fake_new(1, ZONE, 0);
	uint64_t before, vmas[4];

	for (int i = 0; i < 4; i++)
		client(w, i, NR);
	for (int i = 0; i < 4; i++) {
		fill(w->client[i], i < 2 ? NR / 2 : NR, i < 2 ? 0 : (uint64_t)i);
		if (i == 1)
			fake_passes(w, 3);
	}
	fake_passes(w, 3);
	fake_exit(w->client[0]);
	fake_exit(w->client[1]);
	engine_epoch_free(w->e, engine_epoch(w->e));
	before = all_vmas(w);
	for (int i = 2; i < 4; i++) {
		vmas[i] = fake_vmas(w->client[i]);
		engine_mm_set_vmas(w->client[i]->mm, (uint32_t)vmas[i], (uint32_t)(2 * vmas[i]));
	}
	gather(w, COMPACT_RESTING);
	ck_assert_uint_eq(fake_counters(w).pages_shared, NR);
	ck_assert_uint_eq(fake_counters(w).frames_used, NR);
	ck_assert_uint_le(all_vmas(w), before);
	for (int i = 2; i < 4; i++)
		ck_assert_uint_le(fake_vmas(w->client[i]), vmas[i]);
	fake_free(w);
}
END_TEST

/*
 * The first stretch looked at would save its client a mapping for each page, and cost another one
 * three for every two of these. That counts half, since it is worse off, so it would pay. But
 * nothing has been saved yet that could be spent.
 */
START_TEST(saves_before_it_spends)
{
	enum { PICKED = 128, BIG = 2 * PAGEBLOCK_FRAMES, FIRST = 1000, SECOND = 100000 };
	struct fake *w = fake_new(1, ZONE, 0);
	struct fake_client *a, *b;
	uint64_t before;

	for (int i = 0; i < 2; i++)
		fake_fill_unique(client(w, i, NR), 0, 4 * PICKED, FIRST);
	fake_passes(w, 3);
	a = client(w, 2, NR);
	b = client(w, 3, NR);
	fake_fill_unique(a, PAGEBLOCK_FRAMES, BIG, SECOND);
	fake_fill_unique(client(w, 4, NR), 0, BIG, SECOND);
	/* The other one has four side by side: of one it loses the second, of the next the last. */
	for (uint32_t i = 0; i < PICKED; i++) {
		fake_store(a, i, FIRST + 4 * i + (i % 2 ? 3 : 1));
		fake_fill_unique(b, 4 * (PICKED - 1 - i), 4, FIRST + 4 * i);
	}
	fake_passes(w, 3);
	for (int i = 0; i < 2; i++)
		fake_exit(w->client[i]);
	fake_passes(w, 1);
	engine_epoch_free(w->e, engine_epoch(w->e));
	for (uint32_t i = 0; i < PICKED; i++)
		ck_assert_uint_eq(fake_frame(a, i),
				  fake_frame(b, 4 * (PICKED - 1 - i) + (i % 2 ? 3 : 1)));
	before = all_vmas(w);
	gather(w, COMPACT_RESTING); /* which looks after each step */
	ck_assert_uint_le(all_vmas(w), before);
	fake_free(w);
}
END_TEST

/*
 * Four pages of a client could go on behind a fifth, for as many mappings as another client would
 * need more. That is worse off, so it would pay if more were to follow; but four are too few.
 */
START_TEST(no_swap_for_little)
{
	enum { RUNS = 4, FIRST = 1000, ROOM = 4, SECOND = 100000, BIG = 2 * PAGEBLOCK_FRAMES };
	struct fake *w = fake_new(1, ZONE, 0);
	struct fake_client *a, *b;
	uint64_t copies;

	for (int i = 0; i < 2; i++)
		fake_fill_unique(client(w, i, NR), 0, 1 + ROOM + 4 * RUNS, FIRST);
	fake_passes(w, 3);
	a = client(w, 2, NR);
	b = client(w, 3, NR);
	fake_fill_unique(a, PAGEBLOCK_FRAMES * 2, BIG, SECOND);
	fake_fill_unique(client(w, 4, NR), 0, BIG, SECOND);
	fake_store(a, PAGEBLOCK_FRAMES - 1, FIRST);
	for (uint32_t i = 0; i < RUNS; i++) {
		uint64_t run = FIRST + 1 + ROOM + 4 * i;

		fake_store(a, PAGEBLOCK_FRAMES + i, run + 3);
		fake_fill_unique(b, 4 * (RUNS - 1 - i), 4, run);
	}
	fake_passes(w, 3);
	for (int i = 0; i < 2; i++)
		fake_exit(w->client[i]);
	fake_passes(w, 1);
	engine_epoch_free(w->e, engine_epoch(w->e));
	ck_assert_uint_eq(fake_frame(a, PAGEBLOCK_FRAMES),
			  fake_frame(a, PAGEBLOCK_FRAMES - 1) + ROOM + 4);
	copies = w->copies;
	gather(w, COMPACT_RESTING);
	ck_assert_uint_eq(w->compacted.gathered, 0);
	ck_assert_uint_eq(w->copies, copies);
	fake_free(w);
}
END_TEST

/* At rest it gives way to whatever else is wanted of the node; to the operator's wish it grows. */
START_TEST(gives_way)
{
	struct fake *w = order_has_gone(2, 2, 1);
	uint32_t frame;

	ck_assert_int_eq(engine_compact(w->e, 0, COMPACT_RESTING), 0);
	ck_assert_int_eq(engine_compact(w->e, 0, COMPACT_RESTING), -EALREADY);
	fake_compact_step(w);
	fake_compact_step(w);
	w->move_fails = -EPERM; /* so numbers show where pages have gone */
	if (_i == 0) {
		ck_assert_int_eq(engine_migrate(w->e, 0, 1), 0);
		ck_assert_int_eq(engine_migrate(w->e, 0, 1), -EALREADY);
		ck_assert_int_eq(engine_compact(w->e, 0, COMPACT_ALL), -EALREADY);
	} else if (_i == 1) {
		ck_assert_int_eq(engine_offline(w->e, 0, 0, ZONE, 1, &frame), 0);
	} else {
		ck_assert_int_eq(engine_compact(w->e, 0, COMPACT_ALL), 0);
		ck_assert_int_eq(engine_compact(w->e, 0, COMPACT_ALL), -EALREADY);
	}
	for (int left = 1, n = 0; left; n++) {
		left = fake_compact_step(w) + fake_migrate_step(w) + fake_drain_step(w);
		fake_check(w);
		answer_all(w);
		engine_epoch_free(w->e, engine_epoch(w->e));
		w->now_ms += 5;
		ck_assert_int_lt(n, 10000);
	}
	fake_check(w);
	if (_i < 2)
		for (uint32_t p = 0; p < NR; p++)
			ck_assert_uint_ge(fake_frame(w->client[2], p), ZONE);
	else
		ck_assert_uint_le(all_vmas(w), 2 * NR / PAGEBLOCK_FRAMES);
	fake_free(w);
}
END_TEST

/* What nobody asked for ends when nothing is to go on unasked; what the operator wants does not. */
START_TEST(ended_by_its_knob)
{
	struct fake *w = order_has_gone(1, 2, 1);
	uint64_t before = all_vmas(w);

	ck_assert_int_eq(engine_compact(w->e, 0, _i ? COMPACT_ALL : COMPACT_RESTING), 0);
	while (w->compacted.gathered + all_vmas(w) == before) { /* until it has moved something */
		ck_assert(fake_compact_step(w));
		answer_all(w);
		w->now_ms += 5;
	}
	fake_set(w, KNOB_COMPACTION_PROACTIVENESS, 0);
	carry_on(w, true);
	if (_i)
		ck_assert_uint_le(all_vmas(w), 2 * NR / PAGEBLOCK_FRAMES);
	else
		ck_assert_uint_gt(all_vmas(w), before / 4);
	/* It is due as before when it may go on again. */
	ck_assert(!engine_wants_gathering(w->e, 0));
	fake_set(w, KNOB_COMPACTION_PROACTIVENESS, 20);
	if (!_i) {
		gather(w, COMPACT_RESTING);
		ck_assert_uint_le(all_vmas(w), 2 * NR / PAGEBLOCK_FRAMES);
	}
	fake_free(w);
}
END_TEST

Suite *suite_gather(void)
{
	Suite *s = suite_create("gather");
	TCase *tc = engine_case("gather");

	tcase_add_test(tc, two_orders);
	tcase_add_loop_test(tc, order_of_who_left, 0, 2);
	tcase_add_test(tc, below_the_first);
	tcase_add_test(tc, price);
	tcase_add_loop_test(tc, would_not_pay, 0, 2);
	tcase_add_loop_test(tc, pieces, 0, 2);
	tcase_add_loop_test(tc, while_clients_go_on, 0, 3);
	tcase_add_loop_test(tc, budget_and_silence, 0, 2);
	tcase_add_test(tc, moves_meanwhile);
	tcase_add_test(tc, half_of_the_order_each);
	tcase_add_test(tc, nobody_pays_who_cannot);
	tcase_add_test(tc, saves_before_it_spends);
	tcase_add_test(tc, no_swap_for_little);
	tcase_add_loop_test(tc, gives_way, 0, 3);
	tcase_add_loop_test(tc, ended_by_its_knob, 0, 2);
	suite_add_tcase(s, tc);
	return s;
}
