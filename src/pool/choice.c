/* SPDX-License-Identifier: MIT */
/* choice.c - see choice.h. */
#include "pool/choice.h"

#include <assert.h>

/* --- runs --- */

#define BATCH_ORDER 4u
_Static_assert(POOL_CACHE_BATCH == 1u << BATCH_ORDER, "a batch is a run");

/* Mark the frames of a run that was just cut as one. */
static void mark_tails(struct pageblock *pb, uint32_t off, uint32_t nr)
{
	for (; nr--; off++)
		__atomic_store_n(&pb->state[off], pb->state[off] | POOL_TAIL, __ATOMIC_RELAXED);
}

/* Half of the run at `off` is wanted. The frame after it is kept empty, the others go back. */
static void leave_guard(struct zone *z, struct pageblock *pb, uint32_t off, unsigned int order)
	NEEDS(z->lock)
{
	for (uint32_t i = (1u << order) - 1; i > 1u << (order - 1); i--)
		zone_set(z, pb, off + i, 1, POOL_FREE);
	zone_set(z, pb, off + (1u << (order - 1)), 1, POOL_GUARD);
	zone_settle(z, pb);
}

/* Take the two halves of a pair. */
static uint32_t cut_pair(struct zone *z, struct pageblock *pb, enum pool_state to) NEEDS(z->lock)
{
	struct pageblock *buddy = zone_pageblock(z, pb->first / PAGEBLOCK_FRAMES + 1);

	zone_cut(z, pb, 0, PAGEBLOCK_ORDER, to);
	zone_cut(z, buddy, 0, PAGEBLOCK_ORDER, to);
	mark_tails(pb, 1, PAGEBLOCK_FRAMES - 1);
	mark_tails(buddy, 0, PAGEBLOCK_FRAMES);
	return pb->first;
}

/* From the lists of one type, or POOL_NONE. */
static uint32_t from_lists(struct zone *z, unsigned int list, unsigned int order, bool guard,
			   enum pool_state to) NEEDS(z->lock)
{
	unsigned int cut = order + (guard && order < PAGEBLOCK_ORDER);
	struct pageblock *pb = NULL;
	uint32_t off;
	unsigned int o;

	for (o = cut; o < POOL_ORDERS && !(pb = z->list[list][o]); o++)
		;
	if (!pb)
		return POOL_NONE;
	if (order == POOL_MAX_ORDER)
		return cut_pair(z, pb, to);
	off = o == POOL_MAX_ORDER ? 0 : pageblock_first_run(pb, o);
	zone_cut(z, pb, off, cut, to);
	if (cut > order)
		leave_guard(z, pb, off, cut);
	mark_tails(pb, off + 1, (1u << order) - 1);
	return pb->first + off;
}

static uint64_t free_of(const struct zone *z, enum pool_type type) NEEDS(z->lock)
{
	return z->n[type][POOL_FREE];
}

/* More than half of what is free, absent pageblocks included, is in the reserve. */
static bool reserve_is_plenty(const struct zone *z) NEEDS(z->lock)
{
	uint64_t others = free_of(z, POOL_MOVABLE) + free_of(z, POOL_UNMOVABLE) + z->nr_frames -
			  z->nr_present;

	return free_of(z, POOL_RESERVE) > others;
}

/* Lowest absent pageblock of extent i that may come to exist, or POOL_NONE. */
static uint32_t absent_in(const struct zone *z, uint32_t i) NEEDS(z->lock)
{
	uint64_t m = ~0ull;

	if (i >= z->max_ext)
		return POOL_NONE;
	if (z->ext[i])
		m = extent_absent(z->ext[i], zone_extent_blocks(z, i));
	return m ? i * EXTENT_PAGEBLOCKS + u64_first(m) : POOL_NONE;
}

/* An extent that does not exist, the search beginning at *from; else POOL_NONE. */
static uint32_t new_extent(const struct zone *z, uint32_t from) NEEDS(z->lock)
{
	for (uint32_t n = 0; z->nr_ext < z->max_ext && n < z->max_ext; n++) {
		uint32_t i = (from + n) % z->max_ext;

		if (!z->ext[i])
			return i;
	}
	return POOL_NONE;
}

static uint32_t any_absent(const struct zone *z) NEEDS(z->lock)
{
	uint32_t b = POOL_NONE;

	if (z->nr_present == z->nr_frames)
		return POOL_NONE;
	for (uint32_t i = 0; b == POOL_NONE && i < z->max_ext; i++)
		b = absent_in(z, i);
	return b;
}

/* Have a pageblock for single frames and runs come to exist. */
static bool grow(struct zone *z, enum pool_type type) NEEDS(z->lock)
{
	uint32_t b = absent_in(z, z->fill);

	if (b == POOL_NONE) {
		z->fill = new_extent(z, 0);
		b = z->fill == POOL_NONE ? any_absent(z) : absent_in(z, z->fill);
	}
	return b != POOL_NONE && zone_grow(z, b, type);
}

/* Two pageblocks that make a pair. */
static bool grow_pair(struct zone *z, enum pool_type type) NEEDS(z->lock)
{
	for (uint32_t b = 0; b + 1 < z->nr_blocks; b += 2) {
		struct pageblock *pb;

		if (!zone_can_grow(z, b) || !zone_can_grow(z, b + 1) ||
		    zone_block_frames(z, b + 1) != PAGEBLOCK_FRAMES)
			continue;
		pb = zone_grow(z, b, type);
		if (pb && zone_grow(z, b + 1, type))
			return true;
		if (pb)
			zone_settle(z, pb);
		return false;
	}
	return false;
}

/* Frames that cannot move take from movable pageblocks: the largest run, the pageblock with it. */
static uint32_t steal(struct zone *z, enum pool_type from, enum pool_type to_type,
		      unsigned int order, bool guard, enum pool_state to) NEEDS(z->lock)
{
	unsigned int o = POOL_ORDERS;
	struct pageblock *pb = NULL;

	while (o > order && !(pb = z->list[from][o - 1]))
		o--;
	if (pb && to_type == POOL_UNMOVABLE && order < POOL_MAX_ORDER &&
	    pb->n[POOL_FREE] * 2u >= pb->nr) {
		zone_set_type(z, pb, to_type);
		from = to_type;
	}
	return pb ? from_lists(z, from, order, guard, to) : POOL_NONE;
}

uint32_t choice_run(struct zone *z, enum pool_type type, unsigned int order, bool guard,
		    enum pool_state to)
{
	uint32_t f = POOL_NONE;

	if (type == POOL_MOVABLE && reserve_is_plenty(z))
		f = from_lists(z, POOL_RESERVE, order, guard, to);
	if (f == POOL_NONE)
		f = from_lists(z, type, order, guard, to);
	if (f == POOL_NONE && type != POOL_RESERVE &&
	    (order == POOL_MAX_ORDER ? grow_pair(z, type) : grow(z, type)))
		f = from_lists(z, type, order, guard, to);
	if (f == POOL_NONE && type == POOL_MOVABLE)
		f = from_lists(z, POOL_RESERVE, order, guard, to);
	if (f == POOL_NONE && type != POOL_RESERVE)
		f = steal(z, type == POOL_MOVABLE ? POOL_UNMOVABLE : POOL_MOVABLE, type, order,
			  guard, to);
	return f;
}

/* The order of the smallest free runs of movable frames, or POOL_ORDERS. */
static unsigned int smallest_order(const struct zone *z) NEEDS(z->lock)
{
	unsigned int o = 0;

	while (o < POOL_ORDERS && !z->list[POOL_MOVABLE][o])
		o++;
	return o;
}

uint32_t choice_batch(struct zone *z, uint32_t v[POOL_CACHE_BATCH])
{
	unsigned int o = reserve_is_plenty(z) ? 0 : smallest_order(z);
	uint32_t nr;

	if (o >= BATCH_ORDER && o < POOL_ORDERS) {
		struct pageblock *pb = z->list[POOL_MOVABLE][o];
		uint32_t off = o == POOL_MAX_ORDER ? 0 : pageblock_first_run(pb, o);

		zone_cut(z, pb, off, BATCH_ORDER, POOL_CACHED);
		for (nr = 0; nr < POOL_CACHE_BATCH; nr++)
			v[nr] = pb->first + off + nr;
		return nr;
	}
	for (nr = 0; nr < POOL_CACHE_BATCH; nr++) {
		v[nr] = choice_run(z, POOL_MOVABLE, 0, false, POOL_CACHED);
		if (v[nr] == POOL_NONE)
			break;
	}
	return nr;
}

bool choice_take(struct zone *z, uint32_t f)
{
	uint32_t b = f / PAGEBLOCK_FRAMES, off = f % PAGEBLOCK_FRAMES;
	struct pageblock *pb = zone_pageblock(z, b);

	if (!pb && zone_can_grow(z, b) && (!z->guard || off + 1 < zone_block_frames(z, b)))
		pb = zone_grow(z, b, POOL_MOVABLE);
	if (!pb || !choice_can_take(z, pb, off))
		return false;
	if (pageblock_state(pb, off) == POOL_WINDOW) {
		pb->word[off] = POOL_NONE;
		zone_set(z, pb, off, 1, POOL_USED);
		return true;
	}
	zone_cut(z, pb, off, 0, POOL_USED);
	if (z->guard)
		zone_cut(z, pb, off + 1, 0, POOL_GUARD);
	return true;
}

/* --- windows --- */

uint32_t choice_from_window(struct zone *z)
{
	if (!z->n[POOL_MOVABLE][POOL_WINDOW] || z->guard)
		return POOL_NONE;
	for (uint32_t n = 0; n < z->nr_blocks; n++) {
		uint32_t b = (z->scarce + n) % z->nr_blocks;
		struct pageblock *pb = zone_pageblock(z, b);

		if (!pb || !pb->n[POOL_WINDOW] || pb->isolated)
			continue;
		z->scarce = b;
		for (uint32_t off = 0; off < pb->nr; off++)
			if (pageblock_state(pb, off) == POOL_WINDOW &&
			    choice_take(z, pb->first + off))
				return pb->first + off;
	}
	return POOL_NONE;
}

/* Make the pageblock a window if it is absent or empty. */
static bool reserve(struct zone *z, uint32_t b) NEEDS(z->lock)
{
	struct pageblock *pb;

	if (b >= z->nr_blocks)
		return false;
	pb = zone_pageblock(z, b);
	if (!pb && zone_can_grow(z, b))
		pb = zone_grow(z, b, POOL_MOVABLE);
	if (!pb || pb->isolated || !pageblock_is_empty(pb) || pb->type == POOL_RESERVE)
		return false;
	if (pb->type != POOL_MOVABLE)
		zone_set_type(z, pb, POOL_MOVABLE);
	for (uint32_t off = 0; off < pb->nr;) {
		unsigned int order = PAGEBLOCK_ORDER;

		while (off & ((1u << order) - 1) || off + (1u << order) > pb->nr)
			order--;
		zone_cut(z, pb, off, order, POOL_WINDOW);
		off += 1u << order;
	}
	if (z->guard)
		zone_set(z, pb, pb->nr - 1u, 1, POOL_GUARD);
	__atomic_store_n(&pb->window, true, __ATOMIC_RELAXED);
	return true;
}

static uint32_t in_new_extent(struct zone *z, uint32_t at) NEEDS(z->lock)
{
	uint32_t i = new_extent(z, z->next);

	if (i == POOL_NONE)
		return POOL_NONE;
	z->next = (i + 1) % z->max_ext;
	if (i == z->fill) /* single frames have begun it, and it is empty just now */
		z->fill = POOL_NONE;
	at %= zone_extent_blocks(z, i);
	return reserve(z, i * EXTENT_PAGEBLOCKS + at) ? i * EXTENT_PAGEBLOCKS + at : POOL_NONE;
}

uint32_t choice_window(struct zone *z, uint32_t near, uint32_t at)
{
	struct pageblock *pb;
	uint32_t b;

	if (near != POOL_NONE && reserve(z, near))
		return near;
	b = in_new_extent(z, at);
	if (b != POOL_NONE)
		return b;
	b = any_absent(z);
	pb = z->list[POOL_MOVABLE][POOL_MAX_ORDER];
	if (!pb)
		pb = z->list[POOL_MOVABLE][PAGEBLOCK_ORDER];
	if (b == POOL_NONE && pb)
		b = pb->first / PAGEBLOCK_FRAMES;
	return b != POOL_NONE && reserve(z, b) ? b : POOL_NONE;
}

void choice_window_end(struct zone *z, uint32_t block)
{
	struct pageblock *pb = zone_pageblock(z, block);

	assert(pb && pb->window);
	__atomic_store_n(&pb->window, false, __ATOMIC_RELAXED);
	for (uint32_t off = 0; off < pb->nr; off++) {
		enum pool_state s = pageblock_state(pb, off);
		bool guards = z->guard && off && pageblock_is_used(pb, off - 1);

		if (s == POOL_WINDOW || s == POOL_GUARD)
			zone_set(z, pb, off, 1, guards ? POOL_GUARD : POOL_FREE);
	}
	zone_settle(z, pb);
}
