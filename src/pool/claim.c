/* SPDX-License-Identifier: MIT */
/*
 * claim.c - see claim.h.
 *
 * A flag beside each frame is the whole record of a claim, and giving back looks at it: what nobody
 * claimed cannot be given back in its name.
 *
 * Safe because frames are claimed only out of isolation: they are free, under the lock of the zone,
 * in pageblocks of which nobody else is given any.
 */
#include "pool/claim.h"

#include <errno.h>

enum tier { IN_RESERVE, NO_WINDOW, ANYWHERE, TIERS };

static int blame(struct pool_culprit *who, uint32_t frame, const char *why, int err)
{
	*who = (struct pool_culprit){ .frame = frame, .why = why };
	return err;
}

static struct zone *zone_of(const struct pool *p, uint32_t frame)
{
	return &p->zone[pool_nid(p, frame)];
}

/* A range of one zone? */
static bool is_range(const struct pool *p, uint32_t start, uint32_t end)
{
	return start < end && end <= pool_nr_frames(p) &&
	       pool_nid(p, start) == pool_nid(p, end - 1);
}

static void set_claimed(struct pageblock *pb, uint32_t off)
{
	zone_set_fixed(pb, off, 1, true);
	__atomic_store_n(&pb->state[off], pb->state[off] | POOL_CLAIMED, __ATOMIC_RELAXED);
}

static bool is_claimed(const struct pageblock *pb, uint32_t off)
{
	return pb && pageblock_is_claimed(pb, off);
}

/* --- claiming --- */

/* What keeps frame f of the zone from being claimed, or NULL. */
static const char *obstacle(const struct zone *z, uint32_t f) NEEDS(z->lock)
{
	uint32_t b = f / PAGEBLOCK_FRAMES;
	const struct extent *x = zone_extent(z, b);
	const struct pageblock *pb = zone_pageblock(z, b);

	if (!x || !(x->isolated & u64_bit(b % EXTENT_PAGEBLOCKS)))
		return "not isolated";
	return pb && pageblock_state(pb, f % PAGEBLOCK_FRAMES) != POOL_FREE ? "in use" : NULL;
}

/* Pageblocks that come to exist here and are not needed go when their isolation ends. */
static int take(struct zone *z, uint32_t lo, uint32_t hi) NEEDS(z->lock)
{
	for (uint32_t b = lo / PAGEBLOCK_FRAMES; b <= (hi - 1) / PAGEBLOCK_FRAMES; b++)
		if (!zone_pageblock(z, b) && !zone_grow(z, b, POOL_MOVABLE))
			return -ENOMEM;
	for (uint32_t f = lo; f < hi; f++) {
		struct pageblock *pb = zone_pageblock(z, f / PAGEBLOCK_FRAMES);

		zone_cut(z, pb, f % PAGEBLOCK_FRAMES, 0, POOL_USED);
		set_claimed(pb, f % PAGEBLOCK_FRAMES);
	}
	z->nr_claimed += hi - lo;
	return 0;
}

int claim_take(struct pool *p, uint32_t start, uint32_t end, struct pool_culprit *who)
{
	uint32_t base, lo, hi;
	struct zone *z;
	int err = 0;

	if (!is_range(p, start, end))
		return blame(who, POOL_NONE, "no range of one zone", -EINVAL);
	z = zone_of(p, start);
	base = (uint32_t)z->nid * p->zone_frames;
	lo = start - base;
	hi = end - base;
	zone_lock_all(z);
	for (uint32_t f = lo; f < hi && !err; f++) {
		const char *why = obstacle(z, f);

		if (why)
			err = blame(who, base + f, why, -EBUSY);
	}
	if (!err)
		err = take(z, lo, hi);
	zone_unlock_all(z);
	return err == -ENOMEM ? blame(who, POOL_NONE, "memory is short", err) : err;
}

int claim_give(struct pool *p, uint32_t start, uint32_t end, struct pool_culprit *who)
{
	uint32_t base, lo, hi;
	struct zone *z;
	int err = 0;

	if (!is_range(p, start, end))
		return blame(who, POOL_NONE, "no range of one zone", -EINVAL);
	z = zone_of(p, start);
	base = (uint32_t)z->nid * p->zone_frames;
	lo = start - base;
	hi = end - base;
	lock_take(&z->lock);
	for (uint32_t f = lo; f < hi && !err; f++)
		if (!is_claimed(zone_pageblock(z, f / PAGEBLOCK_FRAMES), f % PAGEBLOCK_FRAMES))
			err = blame(who, base + f, "not allocated as a range", -EINVAL);
	if (!err)
		z->nr_claimed -= hi - lo;
	lock_give(&z->lock);
	/* It has no memory of ours; but who maps the arena may have made some there by reading. */
	if (!err)
		pool_give(p, z, lo, hi - lo, true);
	return err;
}

uint32_t claim_next(struct pool *p, uint32_t f, uint32_t end, uint32_t *nr)
{
	struct zone *z = zone_of(p, f);
	uint32_t base = (uint32_t)z->nid * p->zone_frames, lo = f - base, hi = end - base;
	const struct pageblock *pb;

	lock_take(&z->lock);
	while (lo < hi && z->nr_claimed) {
		pb = zone_pageblock(z, lo / PAGEBLOCK_FRAMES);
		if (is_claimed(pb, lo % PAGEBLOCK_FRAMES))
			break;
		lo += pb && pb->nr_fixed ? 1 : PAGEBLOCK_FRAMES - lo % PAGEBLOCK_FRAMES;
	}
	for (*nr = 0; lo + *nr < hi && z->nr_claimed; ++*nr)
		if (!is_claimed(zone_pageblock(z, (lo + *nr) / PAGEBLOCK_FRAMES),
				(lo + *nr) % PAGEBLOCK_FRAMES))
			break;
	lock_give(&z->lock);
	return *nr ? base + lo : POOL_NONE;
}

/* --- where --- */

/* A guard stays if the frame does that it is for. */
static bool stays(const struct pageblock *pb, uint32_t off)
{
	if (pageblock_state(pb, off) == POOL_GUARD)
		off--;
	return __atomic_load_n(&pb->state[off], __ATOMIC_RELAXED) & POOL_FIXED;
}

/* Frames of pageblock b that do not fit end before this one, of [first, end); or 0: all fit. */
static uint32_t unfit_before(const struct zone *z, uint32_t b, uint32_t first, uint32_t end,
			     enum tier tier) NEEDS(z->lock)
{
	const struct extent *x = zone_extent(z, b);
	const struct pageblock *pb = zone_pageblock(z, b);
	uint32_t after = (b + 1) * PAGEBLOCK_FRAMES;

	if (x && (x->isolated | x->offline) & u64_bit(b % EXTENT_PAGEBLOCKS))
		return after;
	if (!pb)
		return tier == IN_RESERVE ? after : 0;
	if (pb->n[POOL_HELD] || (tier == IN_RESERVE && pb->type != POOL_RESERVE) ||
	    (tier == NO_WINDOW && pb->window))
		return after;
	for (uint32_t f = after < end ? after : end; pb->nr_fixed && f > pb->first && f > first;
	     f--)
		if (stays(pb, f - 1 - pb->first))
			return f;
	return 0;
}

/* The first place in [f, z->nr_frames) for this tier, or POOL_NONE. */
static uint32_t find(struct zone *z, uint32_t base, uint32_t f, const struct claim_search *s)
	NEEDS(z->lock)
{
	for (;;) {
		uint64_t aligned = ((uint64_t)base + f + s->align - 1) & ~((uint64_t)s->align - 1);
		uint32_t bad = 0;

		if (aligned - base > z->nr_frames || z->nr_frames - (aligned - base) < s->nr)
			return POOL_NONE;
		f = (uint32_t)(aligned - base);
		/* From the end, so that the next place is behind all that does not fit. */
		for (uint32_t b = (f + s->nr - 1) / PAGEBLOCK_FRAMES + 1;
		     !bad && b > f / PAGEBLOCK_FRAMES; b--)
			bad = unfit_before(z, b - 1, f, f + s->nr, s->tier);
		if (!bad)
			return f;
		f = bad;
	}
}

uint32_t claim_place(struct pool *p, int nid, struct claim_search *s)
{
	struct zone *z = &p->zone[nid];
	uint32_t base = (uint32_t)nid * p->zone_frames, f = POOL_NONE;

	lock_take(&z->lock);
	for (; s->tier < TIERS && f == POOL_NONE; s->tier += f == POOL_NONE) {
		f = find(z, base, s->next, s);
		s->next = f == POOL_NONE ? 0 : f + s->nr;
	}
	lock_give(&z->lock);
	return f == POOL_NONE ? POOL_NONE : base + f;
}
