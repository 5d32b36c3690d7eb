/* SPDX-License-Identifier: MIT */
/*
 * test_movers.c - two movers and an owner between their steps; and whatever a mover needs fails
 * once: each allocation, each frame, each order, each answer.
 *
 * A mover has a stable node isolated while the engine lock is free: the mover of a node's frames
 * (migrate.c), the survey (survey.c) and what brings frames back (place.c). A hook in what it calls
 * then lets the owner act, and another mover after it. The kernel's fault was this: mover A had a
 * page isolated, its owner freed it and cleared "isolated", and mover B isolated it again.
 *
 * Seen to fail: without `isolated` in stable_isolate(); without it in drop_node(); when drop_node()
 * clears it first, as the kernel's owner did; without stable_putback()'s stable_touch().
 */
#include "alloc.h"
#include "fake.h"
#include "suites.h"

#include <errno.h>
#include <string.h>

#include "engine/core.h"
#include "engine/settle.h"
#include "pool/range.h"

enum { ZONE = 8 * PAGEBLOCK_FRAMES, NR = FAKE_CROWD_PAGES, BLOCK = PAGEBLOCK_FRAMES };

/* ---- two movers ---- */

enum { BY_MOVER, BY_SURVEY, BY_PLACE, MOVERS };
enum { OWNER_RESTS, OWNER_LEAVES, OWNER_COMES_BACK, OWNERS };

/* One interleaving at a time; Check runs each test in a process of its own. */
static struct {
	int second, owner;
	uint32_t nr, node[NR], frame[NR]; /* what the first mover has */
} play;

/* All that one mover can do without the other's help. */
static void move_as(struct fake *w, int mover)
{
	uint64_t placed = 0;

	switch (mover) {
	case BY_MOVER:
		ck_assert_int_eq(engine_migrate(w->e, 0, 1), 0);
		fake_migrate_step(w);
		break;
	case BY_SURVEY:
		engine_survey(w->e, UINT32_MAX);
		break;
	default:
		engine_bring_back(w->e, 0, &placed);
	}
}

static void note_isolated(struct fake *w)
{
	engine_lock(w->e);
	for (uint32_t f = 0; f < ZONE; f++) {
		uint32_t node = pool_word(&w->e->pool, f);

		if (!pool_is_used(&w->e->pool, f) || node == POOL_NONE ||
		    !stable_node(&w->e->stable, node)->isolated)
			continue;
		must(play.nr < NR);
		play.node[play.nr] = node;
		play.frame[play.nr++] = f;
	}
	engine_unlock(w->e);
	ck_assert_uint_gt(play.nr, 0);
}

static void own(struct fake *w)
{
	if (play.owner == OWNER_RESTS)
		return;
	fake_exit(w->client[0]);
	fake_exit(w->client[1]);
	if (play.owner != OWNER_COMES_BACK)
		return;
	for (int i = 0; i < 2; i++)
		fake_fill_unique(fake_client(w, FAKE_CROWD_BASE + (uint64_t)i * 0x10000000, NR), 0,
				 NR, 1000);
	for (int i = 0; i < 3; i++) {
		fake_scan(w);
		fake_orders(w);
	}
}

/* The first mover has them, and nobody else: neither a second mover, nor whoever asks. */
static void expect_had_once(struct fake *w)
{
	struct stable *s = &w->e->stable;

	engine_lock(w->e);
	for (uint32_t i = 0; i < play.nr; i++) {
		const struct stable_node *n = stable_node(s, play.node[i]);

		must(n->state == STABLE_LIVE && n->isolated && n->frame == play.frame[i]);
		must(pool_word(&w->e->pool, play.frame[i]) == play.node[i]);
		must(!stable_isolate(s, play.node[i]));
	}
	engine_unlock(w->e);
}

static void owner_and_second_mover(struct fake *w)
{
	note_isolated(w);
	own(w);
	expect_had_once(w);
	move_as(w, play.second);
	expect_had_once(w);
}

/* Frames of zone 0 that lie elsewhere: the survey doubts them, and they are to be brought back. */
static struct fake *world_for(int mover)
{
	struct fake *w = fake_new(2, ZONE, 0);

	w->full_nid = mover == BY_PLACE ? 2 : 0;
	for (int i = 0; i < 2; i++)
		fake_fill_unique(fake_client(w, FAKE_CROWD_BASE + (uint64_t)i * 0x10000000, NR), 0,
				 NR, 1000);
	fake_passes(w, 3);
	w->full_nid = 0;
	for (uint32_t p = 0; mover == BY_SURVEY && p < NR; p++)
		w->frame_nid[fake_frame(w->client[0], p)] = 2;
	return w;
}

START_TEST(isolated_by_one)
{
	int first = _i / OWNERS / MOVERS;
	struct fake *w = world_for(first);

	play.second = _i / OWNERS % MOVERS;
	play.owner = _i % OWNERS;
	/* A node has one such job. Its steps are one mover's, so nothing is between them. */
	if (first != BY_MOVER || play.second != BY_MOVER) {
		w->in_frames = owner_and_second_mover;
		move_as(w, first);
		ck_assert_uint_gt(play.nr, 0);
	}
	fake_check(w);
	fake_migrate(w);
	engine_lock(w->e);
	ck_assert_uint_eq(w->e->stable.nr_isolated, 0);
	engine_unlock(w->e);
	fake_passes(w, 3);
	fake_free(w); /* each frame is freed, exactly once */
}
END_TEST

/* ---- everything fails once ---- */

enum { FAIL_ALLOCATION = FAKE_FAULTS, FAIL_KINDS };
static const char *const fault_names[FAIL_KINDS] = { "copy",   "allowance", "sending",
						     "answer", "silence",   "allocation" };

/* An operation in steps. */
struct job {
	const char *name;
	int nodes;
	int (*begin)(struct fake *w);
	int (*step)(struct fake *w);
	/* Is it complete, or else all as before but for what has moved? */
	bool (*is_complete)(struct fake *w);
};

static uint32_t block; /* that is drained: its first frame */

static int begin_drain(struct fake *w)
{
	uint32_t frame;

	block = fake_frame(w->client[0], 0) / BLOCK * BLOCK;
	return engine_offline(w->e, 0, block, block + BLOCK, 0, &frame);
}

static bool is_drained(struct fake *w)
{
	struct pool_counts c;

	engine_zone_counts(w->e, 0, &c);
	ck_assert_uint_eq(c.offline, !w->drained.err);
	for (int i = 0; !w->drained.err && i < w->nr_clients; i++)
		for (uint32_t p = 0; p < NR; p++)
			must(fake_frame(w->client[i], p) / BLOCK != block / BLOCK);
	return !w->drained.err;
}

static int begin_migrate(struct fake *w)
{
	w->move_fails = -EPERM; /* so pages are re-pointed, which takes memory */
	return engine_migrate(w->e, 0, 1);
}

static bool is_migrated(struct fake *w)
{
	for (int i = 0; i < w->nr_clients; i++)
		for (uint32_t p = 0; p < NR; p++)
			if (fake_frame(w->client[i], p) / ZONE != 1)
				return false;
	return true;
}

static int begin_compact(struct fake *w)
{
	return engine_compact(w->e, 0, false);
}

static bool is_compacted(struct fake *w)
{
	struct pool_counts c;

	engine_zone_counts(w->e, 0, &c);
	return c.pageblocks == 1;
}

static const struct job jobs[] = {
	{ "drain", 1, begin_drain, fake_drain_step, is_drained },
	{ "migrate", 2, begin_migrate, fake_migrate_step, is_migrated },
	{ "compact", 1, begin_compact, fake_compact_step, is_compacted },
};
enum { JOBS = sizeof(jobs) / sizeof(jobs[0]) };

/* Two clients; for compaction, pageblocks of a third one that has gone. */
static struct fake *world_of(const struct job *j)
{
	enum { BLOCKS = 3, PART = 30 };
	struct fake *w;

	if (j->begin != begin_compact)
		return fake_crowd(j->nodes, ZONE, 2);
	w = fake_new(1, ZONE, 0);
	for (int i = 0; i <= 2; i++) {
		struct fake_client *c =
			fake_client(w, FAKE_CROWD_BASE + (uint64_t)i * 0x10000000, BLOCKS * BLOCK);

		for (uint32_t b = 0; b < BLOCKS; b++)
			fake_fill_unique(c, b * BLOCK, PART, 1000 * (b + 1));
	}
	fake_passes(w, 3);
	fake_exit(w->client[0]);
	engine_epoch_free(w->e, engine_epoch(w->e));
	return w;
}

/* What the test itself needs does not fail. */
static void check_unfailing(struct fake *w)
{
	unsigned int left = alloc_fail(0);

	fake_check(w);
	alloc_fail(left);
}

static int run(const struct job *j, struct fake *w)
{
	uint64_t start = w->now_ms;
	int err = j->begin(w);

	while (!err && j->step(w)) {
		check_unfailing(w);
		fake_answer_all(w);
		engine_epoch_free(w->e, engine_epoch(w->e));
		check_unfailing(w);
		w->now_ms += 5;
		ck_assert_uint_lt(w->now_ms - start, 60000);
	}
	return err;
}

static void at_rest(struct fake *w)
{
	struct pool_counts c;

	engine_lock(w->e);
	ck_assert_uint_eq(w->e->stable.nr_isolated, 0);
	ck_assert_uint_eq(w->e->nr_copying, 0);
	for (int nid = 0; nid < w->nr_nodes; nid++)
		must(!w->e->drain[nid] && !w->e->compact[nid] && !w->e->migrate[nid]);
	engine_unlock(w->e);
	for (int nid = 0; nid < w->nr_nodes; nid++) {
		engine_zone_counts(w->e, nid, &c);
		ck_assert_uint_eq(c.isolated, 0);
	}
	fake_check(w);
}

/* The nth of something fails. False: there are not so many. */
static bool fails_once(const struct job *j, int what, unsigned int nth, enum ksm_res result)
{
	struct fake *w = world_of(j);
	struct pool_counts before, after;
	bool came, old;
	int err;

	engine_zone_counts(w->e, 0, &before);
	w->fail_result = result;
	if (what == FAIL_ALLOCATION)
		alloc_fail(nth);
	else
		w->fail_in[what] = nth;
	err = run(j, w);
	came = what == FAIL_ALLOCATION ? !alloc_fail(0) : !w->fail_in[what];
	if (what != FAIL_ALLOCATION)
		w->fail_in[what] = 0;
	at_rest(w);
	engine_zone_counts(w->e, 0, &after);
	if (err) {
		ck_assert_int_eq(err, -ENOMEM);
		ck_assert_mem_eq(&before, &after, sizeof(before));
	}
	old = err || !j->is_complete(w);
	must_msg(!old || came, "%s does not complete", j->name);
	/* Old or new, it is whole: what was left can be done now. */
	fake_release(w);
	fake_answer_all(w);
	fake_passes(w, 3);
	engine_epoch_free(w->e, engine_epoch(w->e));
	if (old)
		ck_assert_int_eq(run(j, w), 0);
	at_rest(w);
	must_msg(!old || j->is_complete(w), "%s does not complete after a failure: %s %u", j->name,
		 fault_names[what], nth);
	fake_free(w);
	return came;
}

START_TEST(each_fails_once)
{
	static const enum ksm_res bad[] = { KSM_RES_BUSY, KSM_RES_GONE, KSM_RES_NOMEM };
	const struct job *j = &jobs[_i / FAIL_KINDS];
	int what = _i % FAIL_KINDS;
	unsigned int nr = 0;

	for (unsigned int k = 0; k < (what == FAKE_FAIL_ANSWER ? 3 : 1); k++)
		for (unsigned int n = 1; fails_once(j, what, n, bad[k]); n++)
			nr++;
	ck_assert_msg(nr, "%s: no %s", j->name, fault_names[what]);
}
END_TEST

/* ---- contiguous ranges ---- */

enum { POOL_BLOCKS = 6, POOL_FRAMES = POOL_BLOCKS * PAGEBLOCK_FRAMES, CONTENTS = 40 };

/* Contents at words 1 to CONTENTS; the nth move fails. */
struct numbers {
	struct pool p;
	unsigned int fail_in;
	int err;
	uint64_t now;
};

static int move(void *ctx, uint32_t from, uint32_t nr, uint32_t to, struct pool_culprit *who)
{
	struct numbers *m = ctx;

	(void)who;
	must(nr == 1);
	if (m->fail_in && !--m->fail_in)
		return m->err;
	pool_set_word(&m->p, to, pool_word(&m->p, from));
	return 0;
}

static void wait_a_little(void *ctx)
{
	struct numbers *m = ctx;

	m->now += 10;
}

static uint64_t now_ms(void *ctx)
{
	const struct numbers *m = ctx;

	return m->now;
}

static const struct pool_ops ops = { .move = move, .pause = wait_a_little, .now_ms = now_ms };

static void numbers_init(struct numbers *m)
{
	struct pool_config cfg = {
		.ops = &ops, .ctx = m, .nr_zones = 1, .zone_frames = POOL_FRAMES, .nr_caches = 1
	};

	memset(m, 0, sizeof(*m));
	must(!pool_init(&m->p, &cfg));
	for (uint32_t i = 1; i <= CONTENTS; i++) {
		uint32_t f = pool_alloc(&m->p, POOL_NO_CACHE, 0, i * 17, POOL_NONE);

		must(f == i * 17);
		pool_set_word(&m->p, f, i);
	}
}

/* Everything is somewhere, once, and not in the range if it was had. */
static void expect_contents(struct numbers *m, uint32_t first, uint32_t end, bool had)
{
	bool seen[CONTENTS + 1] = { false };

	for (uint32_t f = 0; f < POOL_FRAMES; f++) {
		uint32_t word = pool_is_used(&m->p, f) ? pool_word(&m->p, f) : POOL_NONE;

		if (word == POOL_NONE || (had && f >= first && f < end))
			continue;
		must(word >= 1 && word <= CONTENTS && !seen[word]);
		seen[word] = true;
	}
	for (uint32_t i = 1; i <= CONTENTS; i++)
		must(seen[i]);
}

enum { CONTIGUOUS, CONTIGUOUS_ANYWHERE, OFFLINE, RANGE_OPS };

/* Returns 0 or -errno; [*first, *end) is what it was about. */
static int do_range(struct numbers *m, int what, uint32_t *first, uint32_t *end)
{
	struct range_job job = { .timeout_ms = 100 };
	uint32_t f;
	int err;

	*first = 0;
	*end = BLOCK + BLOCK / 2;
	switch (what) {
	case CONTIGUOUS:
		return range_alloc(&m->p, *first, *end, &job);
	case CONTIGUOUS_ANYWHERE:
		err = range_alloc_any(&m->p, 0, 2 * BLOCK, BLOCK, BLOCK, &job, &f);
		*first = err ? 0 : f;
		*end = err ? 0 : f + BLOCK;
		return err;
	default:
		*end = 2 * BLOCK;
		return range_offline(&m->p, *first, *end, &job);
	}
}

static void expect_range(struct numbers *m, int what, uint32_t first, uint32_t end, int err)
{
	struct pool_counts c;

	ck_assert_int_eq(pool_check(&m->p), 0);
	pool_counts(&m->p, 0, &c);
	ck_assert_uint_eq(c.isolated, 0);
	ck_assert_uint_eq(c.offline, !err && what == OFFLINE ? 2 : 0);
	ck_assert_uint_eq(c.used, CONTENTS + (err || what == OFFLINE ? 0 : end - first));
	expect_contents(m, first, end, !err);
}

/* The nth move (err), or the nth allocation (0), fails. False: there are not so many. */
static bool range_fails_once(int what, int move_err, unsigned int nth)
{
	struct numbers m;
	uint32_t first, end;
	bool came;
	int err;

	numbers_init(&m);
	if (move_err)
		m.fail_in = nth;
	else
		alloc_fail(nth);
	m.err = move_err;
	err = do_range(&m, what, &first, &end);
	came = move_err ? !m.fail_in : !alloc_fail(0);
	m.fail_in = 0;
	must(!err || came);
	expect_range(&m, what, first, end, err);
	if (err) {
		err = do_range(&m, what, &first, &end);
		ck_assert_int_eq(err, 0);
		expect_range(&m, what, first, end, 0);
	}
	pool_deinit(&m.p);
	return came;
}

START_TEST(each_range_fails_once)
{
	static const int errs[] = { -EAGAIN, -EBUSY, -ENOMEM, 0 };

	for (int k = 0; k < 4; k++) {
		unsigned int nr = 0;

		for (unsigned int n = 1; range_fails_once(_i, errs[k], n); n++)
			nr++;
		/* Elsewhere in the range there is room. */
		ck_assert(nr || (!errs[k] && _i == CONTIGUOUS_ANYWHERE));
	}
}
END_TEST

Suite *suite_movers(void)
{
	Suite *s = suite_create("movers");
	TCase *tc = engine_case("movers");

	tcase_add_loop_test(tc, isolated_by_one, 0, MOVERS * MOVERS * OWNERS);
	tcase_add_loop_test(tc, each_fails_once, 0, JOBS * FAIL_KINDS);
	tcase_add_loop_test(tc, each_range_fails_once, 0, RANGE_OPS);
	suite_add_tcase(s, tc);
	return s;
}
