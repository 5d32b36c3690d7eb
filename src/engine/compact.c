/* SPDX-License-Identifier: MIT */
/*
 * compact.c - frames of sparse pageblocks are moved together, so that whole pageblocks become free.
 *
 * Pageblocks are what windows need, and a zone has a bounded number of them. After clients have
 * come and gone, many hold a few frames each. As in the kernel's compaction two scanners go through
 * a zone: the migrate scanner looks for pageblocks to empty, from the bottom, the free scanner for
 * room, from the top; a run is over when they meet. Windows of live clients are left alone by both.
 *
 * What is moved is not a frame but a stretch: used frames side by side, with free ones on either
 * side. It goes whole to a gap that has room for all of it, so pages that share a mapping keep
 * sharing it. If the page to the left of its first one stands before such a gap, it goes there, and
 * two mappings become one. A pageblock is begun only if every one of its stretches has a place, and
 * if its clients would not need more mappings, which is known beforehand (relocation.c). What would
 * not pay is not begun.
 *
 * A pageblock is isolated, its new frames are taken, the mover does the rest (migrate.c), and it
 * stays isolated until its frames have had their grace period, or COMPACT_MS. Safe because nothing
 * here moves or frees a frame in use. What fails stays where it is, and the pageblock is in use
 * again.
 */
#include "engine/compact.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/allow.h"
#include "engine/gather.h"
#include "engine/migrate.h"
#include "engine/page.h"
#include "engine/relocation.h"
#include "engine/settle.h"
#include "pool/index.h"
#include "pool/range.h"

#define COMPACT_MS 15000u /* a pageblock waits for its grace period */
#define WAITING 64u       /* pageblocks that do, at most */
#define VISIT 64u         /* pageblocks that the migrate scanner passes by under one hold */
#define SITES 32u         /* sites of which the page to the left is looked at */
#define DEFER_MAX 6u      /* after failures the next 1, 2, 4 .. 64 wishes are passed over */

struct compact {
	int nid;
	/* First frames of pageblocks; those below `migrate` and above `free` are done. */
	uint32_t migrate, free, top;
	uint32_t gap;      /* the free scanner stands here within its pageblock */
	uint32_t too_long; /* no gap was found for a stretch of so many frames */
	bool direct;       /* it ends as soon as a pageblock is free */
	bool gathers;      /* frames are brought next to each other first */
	bool gathering;    /* they are being */
	bool resting;      /* and that is all; whoever else wants something goes before */
	bool unasked;      /* nobody wanted it; compaction_proactiveness 0 ends it */
	struct gather_cursor at;
	struct gather_seen seen;
	bool moving;
	bool cancelled;
	uint32_t block;        /* that is being emptied: its first frame */
	struct relocation way; /* its frames, and the new ones that were taken for them */
	uint32_t nr_waiting;
	struct waiting {
		uint32_t block;
		uint64_t until_ms;
	} waiting[WAITING];
	struct engine_compacted done;
};

void compact_free(struct engine *e)
{
	for (int nid = 0; nid < ENGINE_NODES; nid++)
		free(e->compact[nid]);
}

/* --- stretches --- */

/* First frame that the zone has not. */
static uint32_t zone_end(const struct engine *e, int nid)
{
	return ((uint32_t)nid + 1) * e->pool.zone_frames;
}

/* May frames of it be moved, or others be moved there? It exists. */
static bool is_plain(const struct engine *e, uint32_t block)
{
	const struct pageblock *pb = pool_pageblock(&e->pool, block);

	return pb && pb->type == POOL_MOVABLE && !pb->isolated && !pb->window && !pb->large &&
	       pb->nr == PAGEBLOCK_FRAMES;
}

/* Frames of [f, end) from f on that can be moved. */
static uint32_t stretch(const struct engine *e, uint32_t f, uint32_t end) NEEDS(e->lock)
{
	uint32_t nr = 0;

	while (f + nr < end && gather_is_movable(e, f + nr))
		nr++;
	return nr;
}

/* Used, and can neither be moved nor does it only wait for its grace period? */
static bool is_stuck(const struct engine *e, uint32_t f) NEEDS(e->lock)
{
	uint32_t node = pool_word(&e->pool, f);

	if (!pool_is_used(&e->pool, f) || gather_is_movable(e, f))
		return false;
	return node == POOL_NONE || stable_node(&e->stable, node)->state == STABLE_LIVE;
}

/* Are [f, f + nr) free, in pageblocks that exist? */
static bool has_room(const struct engine *e, const struct compact *c, uint32_t f, uint32_t nr)
{
	if (f >= zone_end(e, c->nid) || nr > zone_end(e, c->nid) - f)
		return false;
	for (uint32_t i = f; i < f + nr; i++)
		if (i / PAGEBLOCK_FRAMES == c->block / PAGEBLOCK_FRAMES ||
		    !pool_is_free(&e->pool, c->nid, i) || pool_is_absent(&e->pool, i))
			return false;
	return true;
}

/* A place where the first frame goes on with the one of a page to the left, or POOL_NONE. */
static uint32_t place_to_join(struct engine *e, const struct compact *c, uint32_t f, uint32_t nr)
	NEEDS(e->lock)
{
	uint32_t i = stable_node(&e->stable, pool_word(&e->pool, f))->first;

	for (unsigned int n = 0; i != NIL && n < SITES; n++) {
		uint32_t to = page_frame_after_left(e, i / BLOCK_PAGES, i % BLOCK_PAGES);

		if (to != POOL_NONE && to != f && has_room(e, c, to, nr))
			return to;
		i = rmap_item(e, i)->s.next;
	}
	return POOL_NONE;
}

/* The first gap from c->gap on that holds nr frames, in the free scanner's pageblock. */
static uint32_t gap_here(struct engine *e, struct compact *c, uint32_t nr) NEEDS(e->lock)
{
	uint32_t end = c->free + PAGEBLOCK_FRAMES;

	for (uint32_t f = c->gap; f + nr <= end;) {
		uint32_t n = 0;

		while (n < nr && pool_is_free(&e->pool, c->nid, f + n))
			n++;
		c->done.free_scanned += n < nr ? n + 1 : n;
		if (n == nr)
			return f;
		f += n + 1;
	}
	return POOL_NONE;
}

/* A gap that holds nr frames, as far up as there is one; POOL_NONE: the scanners have met. */
static uint32_t place_at_top(struct engine *e, struct compact *c, uint32_t nr) NEEDS(e->lock)
{
	if (nr >= c->too_long)
		return POOL_NONE;
	while (c->free >= c->migrate) {
		uint32_t f = POOL_NONE;

		if (c->free < c->top && is_plain(e, c->free) &&
		    !pageblock_is_empty(pool_pageblock(&e->pool, c->free)))
			f = gap_here(e, c, nr);
		if (f != POOL_NONE)
			return f;
		if (c->free < c->migrate + PAGEBLOCK_FRAMES)
			break;
		c->free -= PAGEBLOCK_FRAMES;
		c->gap = c->free;
	}
	c->too_long = nr;
	return POOL_NONE;
}

/* --- a plan for a pageblock --- */

static void give_back(struct engine *e, struct compact *c) NEEDS(e->lock)
{
	for (uint32_t i = 0; i < c->way.nr; i++) {
		if (c->way.at[i].to == POOL_NONE)
			continue;
		pool_free(&e->pool, POOL_NO_CACHE, c->way.at[i].to, 1, false);
		e->nr_copying--;
	}
	c->way.nr = 0;
}

/* Take nr frames from `to` on for those from f on. They count as frames to be filled. */
static bool take(struct engine *e, struct compact *c, uint32_t f, uint32_t to, uint32_t nr)
	NEEDS(e->lock)
{
	for (uint32_t i = 0; i < nr; i++) {
		uint32_t got = allow_frame(e) ? pool_alloc(&e->pool, POOL_NO_CACHE, c->nid, to + i,
							   POOL_NONE) :
						POOL_NONE;

		if (got == POOL_NONE)
			return false;
		e->nr_copying++;
		relocation_add(&c->way, f + i, got);
		if (got != to + i)
			return false;
	}
	return true;
}

/* Find and take a place for the stretch; it may be one that joins. */
static bool plan_stretch(struct engine *e, struct compact *c, uint32_t f, uint32_t nr)
	NEEDS(e->lock)
{
	uint32_t to = place_to_join(e, c, f, nr);

	if (to == POOL_NONE) {
		to = place_at_top(e, c, nr);
		if (to != POOL_NONE)
			c->gap = to + nr;
	}
	return to != POOL_NONE && take(e, c, f, to, nr);
}

/* A place for every stretch of the pageblock. False: it does not pay, and nothing is taken. */
static bool plan(struct engine *e, struct compact *c) NEEDS(e->lock)
{
	uint32_t end = c->block + PAGEBLOCK_FRAMES, free = c->free, gap = c->gap;
	struct relocation_price price;
	bool pays = true;

	for (uint32_t f = c->block; pays && f < end;) {
		uint32_t nr = stretch(e, f, end);

		if (nr)
			pays = plan_stretch(e, c, f, nr);
		else
			pays = !is_stuck(e, f);
		f += nr ? nr : 1;
	}
	price = relocation_price(e, &c->way, 0, c->way.nr, NULL);
	if (pays && !price.too_many && price.more <= 0)
		return true;
	give_back(e, c);
	c->free = free;
	c->gap = gap;
	return false;
}

/* --- pageblocks, one after the other --- */

/* Less than three quarters of it are in use; else little is gained for as much work. */
static bool is_sparse(const struct pageblock *pb)
{
	uint32_t used = pb->n[POOL_USED];

	return used && used + pb->n[POOL_RETIRED] <= PAGEBLOCK_FRAMES * 3 / 4;
}

static void begin_block(struct engine *e, struct compact *c) NEEDS(e->lock)
{
	struct source r = { .from = c->nid,
			    .to = c->nid,
			    .first = c->block,
			    .end = c->block + PAGEBLOCK_FRAMES,
			    .way = &c->way };
	struct pool_culprit who;

	if (range_isolate(&e->pool, r.first, r.end, &who)) {
		give_back(e, c);
		return;
	}
	c->moving = !migrate_begin(e, c->nid, &r);
	if (c->moving)
		return;
	give_back(e, c);
	range_undo_isolate(&e->pool, r.first, r.end);
}

/* The migrate scanner goes up to the next pageblock that pays. False: it has met the other. */
static bool next_block(struct engine *e, struct compact *c) NEEDS(e->lock)
{
	for (unsigned int n = 0; n < VISIT; n++) {
		if (c->migrate + PAGEBLOCK_FRAMES > c->free)
			return false;
		c->block = c->migrate;
		c->migrate += PAGEBLOCK_FRAMES;
		if (!is_plain(e, c->block) || !is_sparse(pool_pageblock(&e->pool, c->block)))
			continue;
		c->done.migrate_scanned += PAGEBLOCK_FRAMES;
		if (!plan(e, c)) {
			c->done.skipped++;
			continue;
		}
		begin_block(e, c);
		return true;
	}
	return true;
}

/* The mover is done with it. It waits until its frames are free. */
static void end_block(struct engine *e, struct compact *c, uint64_t now) NEEDS(e->lock)
{
	c->moving = false;
	give_back(e, c);
	if (!c->gathering)
		c->waiting[c->nr_waiting++] = (struct waiting){ c->block, now + COMPACT_MS };
}

/* Those that are free, or have waited for too long, are in use again; so they cease to exist. */
static void end_waiting(struct engine *e, struct compact *c, uint64_t now) NEEDS(e->lock)
{
	for (uint32_t i = 0; i < c->nr_waiting;) {
		uint32_t f = c->waiting[i].block, end = f + PAGEBLOCK_FRAMES;
		bool is_free = pool_next_used(&e->pool, f, end) == POOL_NONE;

		for (uint32_t k = f; !is_free && k < end; k++)
			if (pool_word(&e->pool, k) != POOL_NONE && gather_is_movable(e, k))
				c->waiting[i].until_ms = 0; /* something stays */
		if (!is_free && now < c->waiting[i].until_ms && !c->cancelled) {
			i++;
			continue;
		}
		c->done.pageblocks += is_free;
		range_undo_isolate(&e->pool, f, end);
		c->waiting[i] = c->waiting[--c->nr_waiting];
	}
}

static bool is_over(const struct compact *c)
{
	return c->cancelled || c->resting || (c->direct && c->done.pageblocks) ||
	       c->migrate + PAGEBLOCK_FRAMES > c->free;
}

/* --- frames brought next to each other --- */

/* Take the new frames. False: they cannot be had, and nothing is taken. */
static bool take_way(struct engine *e, struct compact *c, const struct relocation *way)
	NEEDS(e->lock)
{
	for (uint32_t i = 0; i < way->nr; i++)
		if (!take(e, c, way->at[i].from, way->at[i].to, 1)) {
			give_back(e, c);
			return false;
		}
	return true;
}

/* The next stretch whose frames move. False: there is none left. */
static bool gather(struct engine *e, struct compact *c) NEEDS(e->lock)
{
	struct source r = { .from = c->nid,
			    .to = c->nid,
			    .first = (uint32_t)c->nid * e->pool.zone_frames,
			    .end = zone_end(e, c->nid),
			    .way = &c->way };
	struct relocation way;
	enum gather found = gather_next(e, c->nid, &c->at, &c->seen, &way);

	if (found != GATHER_FOUND || !take_way(e, c, &way))
		return found != GATHER_END;
	c->moving = !migrate_begin(e, c->nid, &r);
	if (c->moving)
		c->done.gathered += way.nr;
	else
		give_back(e, c);
	return true;
}

/* --- the job --- */

/* Is it for want of frames, or has it failed too often, that there is no free pageblock? */
static bool is_vain(struct engine *e, int nid) NEEDS(e->lock)
{
	struct compact_defer *d = &e->compact_defer[nid];
	uint64_t runs[POOL_ORDERS];

	index_runs(&e->pool, nid, POOL_TYPES, runs);
	if (!index_worth_compacting(runs, PAGEBLOCK_ORDER,
				    (int)knob_get(e->knobs, KNOB_EXTFRAG_THRESHOLD)))
		return true;
	if (d->passed + 1 >= 1 << d->shift)
		return false;
	d->passed++;
	return true;
}

static bool is_direct(enum engine_compact how)
{
	return how == COMPACT_DIRECT || how == COMPACT_BACKGROUND;
}

/* A run is under way: it becomes the one that is wanted, or gives way to that. */
static int begin_beside(struct engine *e, struct compact *c, enum engine_compact how) NEEDS(e->lock)
{
	if (!c->resting || how == COMPACT_RESTING || e->node_wanted & bit64((unsigned int)c->nid))
		return -EALREADY;
	if (is_direct(how)) {
		c->cancelled = true;
		return -EALREADY;
	}
	c->resting = c->unasked = false;
	e->gathers_at_rest &= ~bit64((unsigned int)c->nid);
	c->gathering = true;
	c->at = (struct gather_cursor){ .serial = 0 };
	return 0;
}

static void score(struct engine *e, uint64_t *vmas, uint64_t *merged) NEEDS(e->lock)
{
	struct gather_score s = gather_score(e);

	*vmas = s.vmas;
	*merged = s.merged;
}

static int begin(struct engine *e, int nid, enum engine_compact how) NEEDS(e->lock)
{
	struct compact *c = e->compact[nid];

	if (c)
		return begin_beside(e, c, how);
	if (!node_is_free(e, nid))
		return -EALREADY;
	if (how != COMPACT_RESTING)
		e->wants_pageblock &= ~bit64((unsigned int)nid);
	if (is_direct(how) && is_vain(e, nid))
		return -EAGAIN;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->nid = nid;
	c->direct = is_direct(how);
	c->gathers = c->gathering = !c->direct;
	c->resting = how == COMPACT_RESTING;
	c->unasked = c->resting || how == COMPACT_BACKGROUND;
	c->migrate = (uint32_t)nid * e->pool.zone_frames;
	c->top = c->migrate + e->pool.zone_frames / PAGEBLOCK_FRAMES * PAGEBLOCK_FRAMES;
	c->free = c->top;
	c->too_long = PAGEBLOCK_FRAMES + 1;
	score(e, &c->done.vmas_before, &c->done.merged_before);
	e->compact[nid] = c;
	if (c->resting)
		e->gathers_at_rest |= bit64((unsigned int)nid);
	e->node_wanted &= ~bit64((unsigned int)nid);
	count_bytes(e, sizeof(*c));
	return 0;
}

int engine_compact(struct engine *e, int nid, enum engine_compact how)
{
	int err;

	if (nid < 0 || nid >= e->nr_nodes)
		return -EINVAL;
	engine_lock(e);
	err = begin(e, nid, how);
	engine_unlock(e);
	return err;
}

void engine_compact_end(struct engine *e, int nid)
{
	engine_lock(e);
	if (e->compact[nid])
		e->compact[nid]->cancelled = true;
	engine_unlock(e);
	engine_migrate_end(e, nid);
}

static void finish(struct engine *e, struct compact *c, struct engine_compacted *out) NEEDS(e->lock)
{
	struct compact_defer *d = &e->compact_defer[c->nid];

	score(e, &c->done.vmas_after, &c->done.merged_after);
	if (c->gathers && !c->cancelled)
		e->gathered[c->nid] =
			(struct gather_last){ c->done.vmas_after, c->done.merged_after };
	if (!c->resting) {
		d->passed = 0;
		if (c->done.pageblocks)
			d->shift = 0;
		else if (d->shift < DEFER_MAX)
			d->shift++;
	}
	c->done.stretches = c->seen.stretches;
	c->done.stretches_skipped = c->seen.skipped;
	c->done.resting = c->resting;
	*out = c->done;
	e->compact[c->nid] = NULL;
	e->gathers_at_rest &= ~bit64((unsigned int)c->nid);
	count_bytes(e, -(int64_t)sizeof(*c));
	free(c);
}

static enum engine_migrate go_on(struct engine *e, struct compact *c, uint64_t now,
				 struct engine_compacted *out) NEEDS(e->lock)
{
	out->pause = c->resting;
	c->cancelled |= c->resting && (e->node_wanted & bit64((unsigned int)c->nid));
	c->cancelled |= c->unasked && !knob_get(e->knobs, KNOB_COMPACTION_PROACTIVENESS);
	if (c->gathering && !c->cancelled) {
		c->gathering = gather(e, c);
		out->pause &= !c->moving;
		return ENGINE_MIGRATE_MORE;
	}
	end_waiting(e, c, now);
	if (!is_over(c) && c->nr_waiting < WAITING && next_block(e, c))
		return ENGINE_MIGRATE_MORE;
	if (c->nr_waiting && !(c->direct && c->done.pageblocks) && !c->cancelled)
		return ENGINE_MIGRATE_WAIT;
	for (uint32_t i = 0; i < c->nr_waiting; i++)
		c->waiting[i].until_ms = 0;
	end_waiting(e, c, now);
	finish(e, c, out);
	return ENGINE_MIGRATE_DONE;
}

enum engine_migrate engine_compact_step(struct engine *e, int nid, uint64_t now_ms,
					struct engine_compacted *out)
{
	enum engine_migrate ret = ENGINE_MIGRATE_NONE;
	struct engine_migrated moved = { 0 };
	struct compact *c;
	bool moving;

	engine_lock(e);
	c = e->compact[nid];
	moving = c && c->moving;
	engine_unlock(e);
	if (moving)
		ret = migrate_step(e, nid, now_ms, &moved);
	if (!c)
		return ret;
	c->done.isolated += moved.frames;
	for (int i = 0; i < MOVE_FAILED_NR; i++)
		c->done.isolated += moved.failed[i];
	if (moving && ret > ENGINE_MIGRATE_DONE)
		return ret;
	engine_lock(e);
	if (moving)
		end_block(e, c, now_ms);
	ret = go_on(e, c, now_ms, out);
	out->retired = moving;
	engine_unlock(e);
	return ret;
}
