/* SPDX-License-Identifier: MIT */
/*
 * pool.c - all zones, and the limit on frames in use (see pool.h).
 *
 * Safe because a frame is handed out only when it is in a free run, in the caller's cache, or in a
 * window, and leaves that in the same step, under the lock that covers it. Only pool_free() makes a
 * used frame free, and its caller does that when no process can map the frame any more.
 */
#include "pool/pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pool/cache.h"
#include "pool/choice.h"

#define MAX_NUMBERS 0xfffffffeull /* the two highest numbers mean "none" and "zero page" to users */

/* --- life --- */

int pool_init(struct pool *p, const struct pool_config *cfg)
{
	memset(p, 0, sizeof(*p));
	if (cfg->nr_zones < 1 || !cfg->zone_frames ||
	    (uint64_t)cfg->nr_zones * cfg->zone_frames > MAX_NUMBERS)
		return -EINVAL;
	p->zone = calloc((size_t)cfg->nr_zones, sizeof(*p->zone));
	if (!p->zone)
		return -ENOMEM;
	if (cfg->ops)
		p->ops = *cfg->ops;
	p->ctx = cfg->ctx;
	p->nr_zones = cfg->nr_zones;
	p->zone_frames = cfg->zone_frames;
	p->max_frames = cfg->max_frames;
	p->guard = cfg->guard;
	for (int nid = 0; nid < p->nr_zones; nid++) {
		if (zone_init(&p->zone[nid], nid, p->zone_frames, cfg->nr_caches,
			      cfg->keep_empty)) {
			pool_deinit(p);
			return -ENOMEM;
		}
		p->zone[nid].guard = cfg->guard;
	}
	return 0;
}

void pool_deinit(struct pool *p)
{
	for (int nid = 0; nid < p->nr_zones; nid++)
		zone_deinit(&p->zone[nid]);
	free(p->zone);
	memset(p, 0, sizeof(*p));
}

static uint32_t base_of(const struct pool *p, const struct zone *z)
{
	return (uint32_t)z->nid * p->zone_frames;
}

static struct zone *zone_of(const struct pool *p, uint32_t frame)
{
	return &p->zone[frame / p->zone_frames];
}

void pool_moment(const struct pool *p, const struct zone *z, enum pool_moment at, uint32_t f)
{
	if (p->ops.moment)
		p->ops.moment(p->ctx, at, base_of(p, z) + f);
}

bool pool_charge(struct pool *p, uint32_t nr)
{
	uint32_t used = __atomic_load_n(&p->nr_used, __ATOMIC_RELAXED);

	do {
		if (p->max_frames && (nr > p->max_frames || used > p->max_frames - nr))
			return false;
	} while (!__atomic_compare_exchange_n(&p->nr_used, &used, used + nr, true, __ATOMIC_RELAXED,
					      __ATOMIC_RELAXED));
	return true;
}

void pool_uncharge(struct pool *p, uint32_t nr)
{
	__atomic_fetch_sub(&p->nr_used, nr, __ATOMIC_RELAXED);
}

/* --- looking --- */

bool pool_is_free(const struct pool *p, int nid, uint32_t frame)
{
	const struct pageblock *pb;
	uint32_t off = frame % p->zone_frames % PAGEBLOCK_FRAMES;

	if (frame >= pool_nr_frames(p) || pool_nid(p, frame) != nid)
		return false;
	pb = pool_pageblock(p, frame);
	if (!pb) /* nobody changes it: see [owner] */
		return pool_is_absent(p, frame) && (!p->guard || off + 1 < PAGEBLOCK_FRAMES);
	return choice_can_take(zone_of(p, frame), pb, off) ||
	       (!pb->isolated && pageblock_state(pb, off) == POOL_CACHED);
}

/* [owner], both: nobody else changes what they look at. */
uint32_t pool_next_used(const struct pool *p, uint32_t f, uint32_t end) UNCHECKED_LOCKING
{
	while (f < end) {
		const struct pageblock *pb = pool_pageblock(p, f);
		uint32_t off = f % p->zone_frames % PAGEBLOCK_FRAMES;

		if (!pb || pageblock_is_empty(pb))
			f += PAGEBLOCK_FRAMES - off;
		else if (pageblock_is_used(pb, off))
			return f;
		else
			f++;
	}
	return POOL_NONE;
}

/* The first pageblock of a zone, from number b on, that exists; POOL_NONE: none. */
static uint32_t next_block(const struct zone *z, uint32_t b) UNCHECKED_LOCKING
{
	for (uint32_t i = b / EXTENT_PAGEBLOCKS; i < z->max_ext; i++) {
		uint64_t m = z->ext[i] ? z->ext[i]->present : 0;

		if (i == b / EXTENT_PAGEBLOCKS)
			m &= ~0ull << b % EXTENT_PAGEBLOCKS;
		if (m)
			return i * EXTENT_PAGEBLOCKS + u64_first(m);
	}
	return POOL_NONE;
}

uint32_t pool_next_present(const struct pool *p, uint32_t f)
{
	while (f < pool_nr_frames(p)) {
		const struct zone *z = zone_of(p, f);
		uint32_t base = base_of(p, z), b = (f - base) / PAGEBLOCK_FRAMES;
		uint32_t next = next_block(z, b);

		if (next != POOL_NONE)
			return next == b ? f : base + next * PAGEBLOCK_FRAMES;
		f = base + p->zone_frames;
	}
	return POOL_NONE;
}

bool pool_is_absent(const struct pool *p, uint32_t frame) UNCHECKED_LOCKING
{
	return frame < pool_nr_frames(p) &&
	       zone_can_grow(zone_of(p, frame), frame % p->zone_frames / PAGEBLOCK_FRAMES);
}

/* --- taking --- */

/* The frame that is wished for; any number. */
static bool take_wish(struct pool *p, struct zone *z, uint32_t cache, uint32_t frame)
{
	uint32_t f = frame - base_of(p, z);
	bool taken;

	if (frame < base_of(p, z) || f >= z->nr_frames)
		return false;
	lock_take(&z->lock);
	taken = choice_take(z, f);
	lock_give(&z->lock);
	return taken || (cache != POOL_NO_CACHE && cache_take(z, cache, f));
}

/* What others do not need at once: frames in caches, unused frames of windows. */
static uint32_t take_last(struct zone *z)
{
	uint32_t f;

	for (uint32_t i = 0; i < z->nr_caches; i++)
		cache_drain(z, i);
	lock_take(&z->lock);
	f = choice_run(z, POOL_MOVABLE, 0, z->guard, POOL_USED);
	if (f == POOL_NONE)
		f = choice_from_window(z);
	lock_give(&z->lock);
	return f;
}

static uint32_t take_any(struct zone *z, uint32_t cache)
{
	uint32_t f;

	if (cache != POOL_NO_CACHE && !z->guard) {
		f = cache_alloc(z, cache);
	} else {
		lock_take(&z->lock);
		f = choice_run(z, POOL_MOVABLE, 0, z->guard, POOL_USED);
		lock_give(&z->lock);
	}
	return f == POOL_NONE ? take_last(z) : f;
}

uint32_t pool_alloc(struct pool *p, uint32_t cache, int nid, uint32_t best, uint32_t second)
{
	struct zone *z = &p->zone[nid];
	uint32_t f;

	if (!pool_charge(p, 1))
		return POOL_NONE;
	if (take_wish(p, z, cache, best))
		return best;
	if (take_wish(p, z, cache, second))
		return second;
	f = take_any(z, cache);
	if (f == POOL_NONE) {
		pool_uncharge(p, 1);
		return POOL_NONE;
	}
	return base_of(p, z) + f;
}

int pool_alloc_run(struct pool *p, int nid, enum pool_type type, unsigned int order,
		   uint32_t *frame)
{
	struct zone *z;
	uint32_t f;

	*frame = POOL_NONE;
	if (nid < 0 || nid >= p->nr_zones || type >= POOL_TYPES || order > POOL_MAX_ORDER)
		return -EINVAL;
	if (!pool_charge(p, 1u << order))
		return -ENOMEM;
	z = &p->zone[nid];
	lock_take(&z->lock);
	f = choice_run(z, type, order, p->guard, POOL_USED);
	for (uint32_t nr = 1u << order, i = 0; f != POOL_NONE && i < nr; i += PAGEBLOCK_FRAMES)
		zone_set_fixed(zone_pageblock(z, (f + i) / PAGEBLOCK_FRAMES), f % PAGEBLOCK_FRAMES,
			       nr < PAGEBLOCK_FRAMES ? nr : PAGEBLOCK_FRAMES,
			       type == POOL_UNMOVABLE);
	lock_give(&z->lock);
	if (f == POOL_NONE) {
		pool_uncharge(p, 1u << order);
		return -ENOMEM;
	}
	*frame = base_of(p, z) + f;
	return 0;
}

/* --- giving back --- */

static void count_held(struct pool *p, int32_t more)
{
	__atomic_fetch_add(&p->nr_held, (uint32_t)more, __ATOMIC_RELAXED);
}

/* Frames of one pageblock, which the caller's use of them keeps there. */
static void give_part(struct pool *p, struct zone *z, uint32_t f, uint32_t nr, bool has_memory)
{
	struct pageblock *pb = zone_pageblock(z, f / PAGEBLOCK_FRAMES);
	uint32_t first = pb->first, size = pb->nr;
	bool large = __atomic_load_n(&pb->large, __ATOMIC_RELAXED), whole;

	if (has_memory && !large && p->ops.punch)
		p->ops.punch(p->ctx, base_of(p, z) + f, nr);
	lock_take(&z->lock);
	large = pb->large;
	whole = zone_give(z, pb, f % PAGEBLOCK_FRAMES, nr);
	if (large)
		count_held(p, (int32_t)nr);
	lock_give(&z->lock);
	if (!whole)
		return;
	/* All are held, so nobody can take one, and the pageblock cannot go. */
	if (p->ops.punch)
		p->ops.punch(p->ctx, base_of(p, z) + first, size);
	lock_take(&z->lock);
	zone_fold(z, pb);
	count_held(p, -(int32_t)size);
	lock_give(&z->lock);
}

void pool_give(struct pool *p, struct zone *z, uint32_t f, uint32_t nr, bool has_memory)
{
	while (nr) {
		uint32_t part = PAGEBLOCK_FRAMES - f % PAGEBLOCK_FRAMES;

		if (part > nr)
			part = nr;
		give_part(p, z, f, part, has_memory);
		f += part;
		nr -= part;
	}
}

void pool_free(struct pool *p, uint32_t cache, uint32_t frame, uint32_t nr, bool has_memory)
{
	struct zone *z = zone_of(p, frame);
	uint32_t f = frame - base_of(p, z);
	const struct pageblock *pb = zone_pageblock(z, f / PAGEBLOCK_FRAMES);

	assert(pb && pageblock_is_used(pb, f % PAGEBLOCK_FRAMES) && f + nr <= z->nr_frames);
	pool_moment(p, z, POOL_AT_FREE, f);
	pool_uncharge(p, nr);
	if (nr == 1 && cache != POOL_NO_CACHE && !p->guard &&
	    !__atomic_load_n(&pb->large, __ATOMIC_RELAXED)) {
		if (has_memory && p->ops.punch)
			p->ops.punch(p->ctx, frame, 1);
		if (cache_give(z, cache, f))
			return;
		has_memory = false;
	}
	pool_give(p, z, f, nr, has_memory);
}

static void change(struct pool *p, uint32_t frame, enum pool_state from, enum pool_state to)
{
	struct zone *z = zone_of(p, frame);
	uint32_t f = frame - base_of(p, z);
	struct pageblock *pb;

	lock_take(&z->lock);
	pb = zone_pageblock(z, f / PAGEBLOCK_FRAMES);
	assert(pb && pageblock_state(pb, f % PAGEBLOCK_FRAMES) == from);
	(void)from;
	zone_set(z, pb, f % PAGEBLOCK_FRAMES, 1, to);
	lock_give(&z->lock);
}

void pool_retire(struct pool *p, uint32_t frame)
{
	change(p, frame, POOL_USED, POOL_RETIRED);
}

void pool_revive(struct pool *p, uint32_t frame)
{
	change(p, frame, POOL_RETIRED, POOL_USED);
}

void pool_drain(struct pool *p, uint32_t cache)
{
	for (int nid = 0; nid < p->nr_zones; nid++)
		cache_drain(&p->zone[nid], cache);
}

/* --- pageblocks --- */

uint32_t pool_window_reserve(struct pool *p, int nid, uint32_t near, uint32_t at)
{
	struct zone *z = &p->zone[nid];
	uint32_t b = POOL_NONE;

	if (near >= base_of(p, z) && near - base_of(p, z) < z->nr_frames)
		b = (near - base_of(p, z)) / PAGEBLOCK_FRAMES;
	lock_take(&z->lock);
	b = choice_window(z, b, at);
	lock_give(&z->lock);
	return b == POOL_NONE ? POOL_NONE : base_of(p, z) + b * PAGEBLOCK_FRAMES;
}

void pool_window_release(struct pool *p, uint32_t first)
{
	struct zone *z = zone_of(p, first);

	lock_take(&z->lock);
	choice_window_end(z, (first - base_of(p, z)) / PAGEBLOCK_FRAMES);
	lock_give(&z->lock);
}

/* Why the pageblock cannot be a reserve, or NULL. */
static const char *not_empty(const struct zone *z, uint32_t b) NEEDS(z->lock)
{
	const struct pageblock *pb = zone_pageblock(z, b);

	if (!pb)
		return zone_can_grow(z, b) ? NULL : "isolated or offline";
	return pb->isolated || !pageblock_is_empty(pb) ? "in use" : NULL;
}

int pool_reserve(struct pool *p, uint32_t first, uint32_t nr, struct pool_culprit *who)
{
	uint32_t b = first % p->zone_frames / PAGEBLOCK_FRAMES;
	struct zone *z;
	int err = 0;

	if (first >= pool_nr_frames(p) || first % p->zone_frames % PAGEBLOCK_FRAMES || !nr)
		return -EINVAL;
	z = zone_of(p, first);
	if (nr > z->nr_blocks - b)
		return -EINVAL;
	lock_take(&z->lock);
	for (uint32_t i = b; i < b + nr && !err; i++) {
		const char *why = not_empty(z, i);

		if (why) {
			*who = (struct pool_culprit){ .why = why };
			who->frame = base_of(p, z) + i * PAGEBLOCK_FRAMES;
			err = -EBUSY;
		}
	}
	for (uint32_t i = b; i < b + nr && !err; i++) {
		struct pageblock *pb = zone_pageblock(z, i);

		if (pb)
			zone_set_type(z, pb, POOL_RESERVE);
		else if (!zone_grow(z, i, POOL_RESERVE))
			err = -ENOMEM; /* the part that was made stays one, and serves all */
		if (!err)
			zone_extent(z, i)->reserve |= u64_bit(i % EXTENT_PAGEBLOCKS);
	}
	lock_give(&z->lock);
	return err;
}

int pool_set_large(struct pool *p, uint32_t first)
{
	struct zone *z = zone_of(p, first);
	uint32_t f = first - base_of(p, z);
	struct pageblock *pb;
	int err = -EINVAL;

	zone_lock_all(z);
	pb = zone_pageblock(z, f / PAGEBLOCK_FRAMES);
	if (pb && pb->nr == PAGEBLOCK_FRAMES && !pb->large) {
		cache_purge(z, pb->first, pb->first + pb->nr);
		pb = zone_pageblock(z, f / PAGEBLOCK_FRAMES);
		if (pb && pb->n[POOL_USED] + pb->n[POOL_RETIRED]) {
			count_held(p, (int32_t)zone_hold(z, pb));
			err = 0;
		}
	}
	zone_unlock_all(z);
	return err;
}

/* --- counting --- */

void pool_counts(struct pool *p, int nid, struct pool_counts *out)
{
	struct zone *z = &p->zone[nid];

	memset(out, 0, sizeof(*out));
	zone_lock_all(z);
	out->cached = cache_count(z, out->cached_of);
	for (int t = 0; t < POOL_TYPES; t++) {
		out->free_of[t] = z->n[t][POOL_FREE];
		out->used_of[t] = z->n[t][POOL_USED] - out->cached_of[t];
		out->isolated_of[t] = z->n[t][POOL_ISOLATED];
		out->retired_of[t] = z->n[t][POOL_RETIRED] + z->n[t][POOL_HELD];
		out->guard_of[t] = z->n[t][POOL_GUARD];
		for (int s = 0; s < POOL_STATES; s++)
			out->frames_of[t] += z->n[t][s];
		out->free += out->free_of[t];
		out->used += out->used_of[t];
		out->isolated += out->isolated_of[t];
		out->retired += out->retired_of[t];
		out->guard += out->guard_of[t];
		out->window += z->n[t][POOL_WINDOW];
	}
	out->claimed = z->nr_claimed;
	out->span = z->nr_frames;
	out->absent = z->nr_frames - z->nr_present;
	for (uint32_t i = 0; i < z->max_ext; i++) {
		out->pageblocks += z->ext[i] ? u64_ones(z->ext[i]->present) : 0;
		out->offline += z->ext[i] ? u64_ones(z->ext[i]->offline) : 0;
	}
	zone_unlock_all(z);
}

uint64_t pool_bytes(struct pool *p)
{
	uint64_t bytes = 0;

	for (int nid = 0; nid < p->nr_zones; nid++) {
		lock_take(&p->zone[nid].lock);
		bytes += p->zone[nid].bytes;
		lock_give(&p->zone[nid].lock);
	}
	return bytes;
}

int pool_check(struct pool *p)
{
	uint64_t used = 0, held = 0;

	for (int nid = 0; nid < p->nr_zones; nid++) {
		struct pool_counts c;

		if (zone_check(&p->zone[nid]))
			return -1;
		pool_counts(p, nid, &c);
		if (c.free + c.cached + c.isolated + c.used + c.retired + c.guard + c.window +
			    c.absent !=
		    c.span)
			return -1;
		lock_take(&p->zone[nid].lock);
		used += c.used - c.claimed;
		for (int t = 0; t < POOL_TYPES; t++) {
			used += p->zone[nid].n[t][POOL_RETIRED];
			held += p->zone[nid].n[t][POOL_HELD];
		}
		lock_give(&p->zone[nid].lock);
	}
	if (used != p->nr_used || held != p->nr_held)
		return -1;
	return !p->max_frames || used <= p->max_frames ? 0 : -1;
}
