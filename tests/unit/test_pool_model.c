/* SPDX-License-Identifier: MIT */
/*
 * test_pool_model.c - random operations on a pool, beside a model that is too simple to be wrong.
 *
 * The model is an array: for each frame, who has it. Each user's frame carries an identity in its
 * word, which moves with the contents. After every operation the pool must say of every identity
 * where the model has it. Frames that are handed out must have been nobody's, and not in a
 * pageblock that is isolated, offline, or (but for wishes and need) somebody's window. The counts
 * of used, retired and window-reserved frames are compared with a plain recount of the model; that
 * the pool's own counts add up is pool_check()'s.
 *
 * Seen to fail: without cache_purge() in isolate_blocks(); when zone_give() leaves the flag of the
 * frame after a run that is given back in part; when choice_take() does not ask for isolation.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/claim.h"
#include "pool/range.h"
#include "fake.h"
#include "suites.h"

#define B PAGEBLOCK_FRAMES

enum { ZONES = 2, ZONE_FRAMES = 12 * PAGEBLOCK_FRAMES + 100, FRAMES = ZONES * ZONE_FRAMES };
enum { BLOCKS = ZONES * 13, CACHES = 3, OBJECTS = FRAMES, STEPS = 200000 };

/* What somebody has: frames side by side, of which some may have been given back. */
struct object {
	uint32_t first, nr;
	bool fixed, retired, claimed;
};

struct model {
	struct pool p;
	uint64_t rng;
	uint32_t id[FRAMES];     /* 0: nobody's */
	uint32_t begins[FRAMES]; /* index of the object that begins there */
	uint32_t next_id;
	struct object obj[OBJECTS];
	int nr_obj;
	bool isolated[BLOCKS], offline[BLOCKS], window[BLOCKS], large[BLOCKS];
	uint64_t done[16], moved; /* operations that succeeded, by kind */
	uint32_t steps;
	int refuse; /* percent of moves */
};

static uint32_t below(struct model *m, uint32_t n)
{
	return (uint32_t)(fake_rand(&m->rng) % n);
}

static uint32_t block_of(uint32_t frame)
{
	return frame / ZONE_FRAMES * 13 + frame % ZONE_FRAMES / B;
}

static uint32_t first_of(uint32_t block)
{
	return block / 13 * ZONE_FRAMES + block % 13 * B;
}

static uint32_t end_of(uint32_t block)
{
	return block % 13 == 12 ? (block / 13 + 1) * ZONE_FRAMES : first_of(block) + B;
}

/* ---- who has what ---- */

/* Whether the pageblock is a large folio. It ends as one when nobody has a frame of it. */
static bool is_large(struct model *m, uint32_t block)
{
	uint32_t f = first_of(block);

	while (m->large[block] && f < end_of(block) && !m->id[f])
		f++;
	m->large[block] = m->large[block] && f < end_of(block);
	return m->large[block];
}

static void claim(struct model *m, uint32_t first, uint32_t nr)
{
	for (uint32_t f = first; f < first + nr; f++) {
		must_msg(!is_large(m, block_of(f)), "frame %u is part of a large folio", f);
		must_msg(!m->id[f], "frame %u is somebody's", f);
		must_msg(!m->offline[block_of(f)], "frame %u is offline", f);
		m->id[f] = ++m->next_id;
		pool_set_word(&m->p, f, m->id[f]);
	}
}

static struct object *add(struct model *m, uint32_t first, uint32_t nr, bool fixed)
{
	struct object *o = &m->obj[m->nr_obj++];

	*o = (struct object){ first, nr, fixed, false, false };
	m->begins[first] = (uint32_t)(o - m->obj);
	claim(m, first, nr);
	return o;
}

/* A contiguous range is taken as so many single frames. */
static void add_singles(struct model *m, uint32_t first, uint32_t nr)
{
	for (uint32_t f = first; f < first + nr; f++)
		add(m, f, 1, false);
}

static void forget(struct model *m, struct object *o)
{
	if (o == &m->obj[--m->nr_obj])
		return;
	*o = m->obj[m->nr_obj];
	m->begins[o->first] = (uint32_t)(o - m->obj);
}

static void must_not_be_isolated(const struct model *m, uint32_t first, uint32_t nr)
{
	for (uint32_t f = first; f < first + nr; f++)
		must_msg(!m->isolated[block_of(f)], "frame %u is isolated", f);
}

/* The pool moves runs, which are objects or what is left of them. */
static int move(void *ctx, uint32_t from, uint32_t nr, uint32_t to, struct pool_culprit *who)
{
	struct model *m = ctx;
	struct object *o;

	if (below(m, 100) < (uint32_t)m->refuse) {
		who->pid = 4711;
		return below(m, 2) ? -EAGAIN : -EBUSY;
	}
	o = &m->obj[m->begins[from]];
	must_msg(o < m->obj + m->nr_obj && o->first == from,
		 "a run [%u, +%u) that nobody has is moved", from, nr);
	must(o->nr == nr);
	must(!o->fixed && !o->retired);
	must_not_be_isolated(m, to, nr);
	for (uint32_t f = 0; f < nr; f++) {
		must(m->id[to + f] == 0);
		must(!is_large(m, block_of(to + f)));
		m->id[to + f] = m->id[from + f];
		m->id[from + f] = 0;
		pool_set_word(&m->p, to + f, m->id[to + f]);
	}
	o->first = to;
	m->begins[to] = m->begins[from];
	m->moved++;
	return 0;
}

static const struct pool_ops ops = { .move = move };

static void check(struct model *m)
{
	uint64_t used = 0, retired = 0, window[ZONES] = { 0 };

	must(pool_check(&m->p) == 0);
	for (uint32_t f = 0; f < FRAMES; f++) {
		bool is_used = pool_is_used(&m->p, f);

		must_msg(is_used == !!m->id[f], "frame %u: used %d, should be %d", f, is_used,
			 !!m->id[f]);
		must(pool_word(&m->p, f) == (m->id[f] ? m->id[f] : POOL_NONE));
		if (is_large(m, block_of(f)))
			retired += !m->id[f];
		else if (!m->p.guard || f + 1 != end_of(block_of(f)))
			window[f / ZONE_FRAMES] += !m->id[f] && m->window[block_of(f)];
	}
	for (int i = 0; i < m->nr_obj; i++) {
		used += m->obj[i].retired ? 0 : m->obj[i].nr;
		retired += m->obj[i].retired ? m->obj[i].nr : 0;
	}
	for (int nid = 0; nid < ZONES; nid++) {
		struct pool_counts c;

		pool_counts(&m->p, nid, &c);
		must(c.window == window[nid]);
		used -= c.used;
		retired -= c.retired;
	}
	must(used == 0);
	must(retired == 0);
}

/* ---- operations ---- */

static uint32_t any_cache(struct model *m)
{
	uint32_t c = below(m, CACHES + 1);

	return c == CACHES ? POOL_NO_CACHE : c;
}

static struct object *any_object(struct model *m)
{
	return m->nr_obj ? &m->obj[below(m, (uint32_t)m->nr_obj)] : NULL;
}

/* The frame behind a run that was just taken, in the mode in which there is one. */
static void must_be_guarded(const struct model *m, uint32_t f)
{
	const struct pageblock *pb = pool_pageblock(&m->p, f - 1);
	uint32_t off = (f - 1) % ZONE_FRAMES % B + 1;

	if (m->p.guard && !m->window[block_of(f - 1)])
		must_msg(off < pb->nr && pageblock_state(pb, off) == POOL_GUARD,
			 "frame %u has no guard", f - 1);
}

static bool op_alloc(struct model *m)
{
	uint32_t f;

	f = pool_alloc(&m->p, any_cache(m), (int)below(m, ZONES), below(m, FRAMES + 10),
		       below(m, 4) ? POOL_NONE : below(m, FRAMES));
	if (f == POOL_NONE)
		return false;
	must_not_be_isolated(m, f, 1);
	add(m, f, 1, false);
	must_be_guarded(m, f + 1);
	return true;
}

static bool op_alloc_run(struct model *m)
{
	enum pool_type type = below(m, 4) ? POOL_MOVABLE : POOL_UNMOVABLE;
	unsigned int order = below(m, 8) ? below(m, 6) : below(m, POOL_ORDERS);
	uint32_t f;

	if (pool_alloc_run(&m->p, (int)below(m, ZONES), type, order, &f))
		return false;
	must(f % ZONE_FRAMES % (1u << order) == 0);
	must_not_be_isolated(m, f, 1u << order);
	for (uint32_t i = f; i < f + (1u << order); i += B)
		must(!m->window[block_of(i)]);
	add(m, f, 1u << order, type == POOL_UNMOVABLE);
	if (order < PAGEBLOCK_ORDER)
		must_be_guarded(m, f + (1u << order));
	return true;
}

static void give(struct model *m, const struct object *o, uint32_t first, uint32_t nr)
{
	struct pool_culprit who;

	memset(&m->id[first], 0, nr * sizeof(m->id[0]));
	if (o->claimed)
		must(claim_give(&m->p, first, first + nr, &who) == 0);
	must(claim_give(&m->p, first, first + nr, &who) == -EINVAL);
	if (!o->claimed)
		pool_free(&m->p, any_cache(m), first, nr, below(m, 2));
}

static bool op_free(struct model *m)
{
	struct object *o = any_object(m);
	uint32_t cut;

	if (!o)
		return false;
	cut = below(m, 3) ? o->nr : 1 + below(m, o->nr);
	if (o->nr > B && below(m, 2))
		cut = B;   /* of a pair */
	if (below(m, 2)) { /* its front */
		give(m, o, o->first, cut);
		o->first += cut;
		if (cut < o->nr)
			m->begins[o->first] = (uint32_t)(o - m->obj);
	} else {
		give(m, o, o->first + o->nr - cut, cut);
	}
	o->nr -= cut;
	if (!o->nr)
		forget(m, o);
	return true;
}

static bool op_retire(struct model *m)
{
	struct object *o = any_object(m);

	if (!o || o->nr != 1 || o->fixed)
		return false;
	if (o->retired)
		pool_revive(&m->p, o->first);
	else
		pool_retire(&m->p, o->first);
	o->retired = !o->retired;
	return true;
}

static bool op_drain(struct model *m)
{
	pool_drain(&m->p, below(m, CACHES));
	return true;
}

static bool op_window(struct model *m)
{
	uint32_t b = below(m, BLOCKS), f;

	if (m->window[b]) {
		pool_window_release(&m->p, first_of(b));
		m->window[b] = false;
		return true;
	}
	f = pool_window_reserve(&m->p, (int)below(m, ZONES), first_of(b), below(m, 64));
	if (f == POOL_NONE)
		return false;
	b = block_of(f);
	must(first_of(b) == f);
	must(!m->window[b] && !m->isolated[b] && !m->offline[b]);
	for (; f < end_of(b); f++)
		must(m->id[f] == 0);
	m->window[b] = true;
	return true;
}

/* A random range, mostly within a zone and seldom more than three pageblocks long. */
static void any_range(struct model *m, uint32_t *start, uint32_t *end)
{
	*start = below(m, FRAMES);
	*end = *start + below(m, below(m, 4) ? B : 3 * B);
}

static bool in_one_zone(uint32_t start, uint32_t end)
{
	return start < end && end <= FRAMES && start / ZONE_FRAMES == (end - 1) / ZONE_FRAMES;
}

static bool op_isolate(struct model *m)
{
	struct pool_culprit who;
	uint32_t start, end;
	int err;

	any_range(m, &start, &end);
	err = range_isolate(&m->p, start, end, &who);
	if (!in_one_zone(start, end))
		must(err == -EINVAL);
	if (err) {
		must(err == -EINVAL || (err == -EBUSY && who.frame < FRAMES && who.why));
		return false;
	}
	for (uint32_t b = block_of(start); b <= block_of(end - 1); b++) {
		must(!m->isolated[b] && !m->offline[b] && !m->window[b]);
		m->isolated[b] = true;
	}
	return true;
}

static bool op_undo(struct model *m)
{
	uint32_t start, end;
	int err;

	any_range(m, &start, &end);
	err = range_undo_isolate(&m->p, start, end);
	must(err == (in_one_zone(start, end) ? 0 : -EINVAL));
	for (uint32_t b = block_of(start); !err && b <= block_of(end - 1); b++)
		m->isolated[b] = false;
	return !err;
}

static bool op_range(struct model *m)
{
	struct range_job job = { .anywhere = below(m, 2) };
	uint32_t start, end;

	any_range(m, &start, &end);
	if (range_alloc(&m->p, start, end, &job))
		return false;
	must_not_be_isolated(m, start, end - start);
	add_singles(m, start, end - start);
	return true;
}

/* As the service does: isolated, looked at, and if all is free claimed and in use again. */
static bool op_claim(struct model *m)
{
	struct claim_search s = { .nr = 1 + below(m, below(m, 3) ? 16 : B),
				  .align = 1u << below(m, 8) };
	int nid = (int)below(m, ZONES), err = -EBUSY;
	struct pool_culprit who;
	uint32_t f = POOL_NONE;

	for (int i = 0; err && i < 4; i++) {
		f = claim_place(&m->p, nid, &s);
		if (f == POOL_NONE)
			return false;
		must(f % s.align == 0 && (int)(f / ZONE_FRAMES) == nid);
		must(claim_take(&m->p, f, f + s.nr, &who) == -EBUSY && who.frame == f);
		if (range_isolate(&m->p, f, f + s.nr, &who)) {
			must(m->window[block_of(who.frame)]);
			continue;
		}
		err = claim_take(&m->p, f, f + s.nr, &who);
		must(!err || (err == -EBUSY && who.frame >= f && who.frame < f + s.nr));
		must(range_undo_isolate(&m->p, f, f + s.nr) == 0);
	}
	if (err)
		return false;
	must_not_be_isolated(m, f, s.nr);
	add(m, f, s.nr, true)->claimed = true;
	return true;
}

static bool op_range_any(struct model *m)
{
	struct range_job job = { .anywhere = below(m, 2) };
	uint32_t start, end, nr = 1 + below(m, 2 * B), align = 1u << below(m, 10), f;

	any_range(m, &start, &end);
	end += 4 * B;
	if (range_alloc_any(&m->p, start, end, nr, align, &job, &f))
		return false;
	must(f >= start && f + nr <= end && f % align == 0);
	must_not_be_isolated(m, f, nr);
	add_singles(m, f, nr);
	return true;
}

static bool op_offline(struct model *m)
{
	struct range_job job = { .anywhere = below(m, 2) };
	uint32_t b = below(m, BLOCKS);

	if (range_offline(&m->p, first_of(b), end_of(b), &job))
		return false;
	must(!m->isolated[b] && !m->offline[b] && !m->window[b]);
	for (uint32_t f = first_of(b); f < end_of(b); f++)
		must(m->id[f] == 0);
	m->offline[b] = true;
	return true;
}

static bool op_online(struct model *m)
{
	uint32_t b = below(m, BLOCKS);
	bool was = m->offline[b];

	must(range_online(&m->p, first_of(b), end_of(b)) == 0);
	m->offline[b] = false;
	return was;
}

static bool op_reserve(struct model *m)
{
	struct pool_culprit who;

	return !pool_reserve(&m->p, first_of(below(m, BLOCKS)), 1, &who);
}

/* A pageblock turns out to be one folio: somebody has a frame of it. */
static bool op_large(struct model *m)
{
	uint32_t b = block_of(below(m, FRAMES)), nr = 0;
	bool was = is_large(m, b);
	int err = pool_set_large(&m->p, first_of(b));

	for (uint32_t f = first_of(b); f < end_of(b); f++)
		nr += !!m->id[f];
	must(err == (was || !nr || end_of(b) - first_of(b) < B ? -EINVAL : 0));
	m->large[b] = was || !err;
	return !err;
}

static bool (*const op[])(struct model *) = {
	op_alloc, op_alloc_run, op_free,    op_retire, op_drain,   op_window, op_isolate, op_undo,
	op_range, op_range_any, op_offline, op_online, op_reserve, op_large,  op_claim,
};
enum { OPS = sizeof(op) / sizeof(op[0]) };
/* Of 1,000. Isolations and reserves are rare, as each stays for long. */
static const uint32_t weight[OPS] = { 330, 120, 330, 41, 10, 20, 25, 60, 15, 10, 8, 10, 7, 4, 10 };

static void step(struct model *m)
{
	uint32_t r = below(m, 1000), i = 0;

	/* The pool fills and empties in turn. */
	if (r < 450 && m->steps++ / 2000 % 2)
		r = 450 + r % 330;

	while (r >= weight[i])
		r -= weight[i++];
	m->done[i] += op[i](m);
}

static void random_operations(bool guard)
{
	struct model *m = calloc(1, sizeof(*m));
	struct pool_config cfg = { .ops = &ops,
				   .ctx = m,
				   .nr_zones = ZONES,
				   .zone_frames = ZONE_FRAMES,
				   .max_frames = FRAMES - 700,
				   .nr_caches = CACHES,
				   .guard = guard };

	m->rng = fake_seed();
	m->refuse = 10;
	must(pool_init(&m->p, &cfg) == 0);
	for (int i = 0; i < STEPS; i++) {
		step(m);
		if (i % 64 == 0)
			check(m);
	}
	check(m);
	for (int i = 0; i < OPS; i++)
		must_msg(m->done[i] > 0, "operation %d has never succeeded", i);
	must(m->moved > 0);
	pool_deinit(&m->p);
	free(m);
}

START_TEST(as_the_model)
{
	random_operations(_i);
}
END_TEST

Suite *suite_pool_model(void)
{
	Suite *s = suite_create("pool model");
	TCase *tc = tcase_create("model");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, as_the_model, 0, 2);
	suite_add_tcase(s, tc);
	return s;
}
