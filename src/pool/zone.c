/* SPDX-License-Identifier: MIT */
/*
 * zone.c - the moves of pageblocks and frames (see zone.h).
 *
 * Every change of a free run goes through zone_cut() or zone_set(), and every change of a list
 * through relink(), so counts and lists follow from what pageblocks are, and from nothing that a
 * caller remembers. A pair is taken apart before anything happens to one of its halves.
 */
#include "pool/zone.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* --- life --- */

int zone_init(struct zone *z, int nid, uint32_t nr_frames, uint32_t nr_caches, bool keep_empty)
{
	memset(z, 0, sizeof(*z));
	z->nid = nid;
	z->nr_frames = nr_frames;
	z->nr_blocks = nr_frames / PAGEBLOCK_FRAMES + !!(nr_frames % PAGEBLOCK_FRAMES);
	z->max_ext = z->nr_blocks / EXTENT_PAGEBLOCKS + !!(z->nr_blocks % EXTENT_PAGEBLOCKS);
	z->keep_empty = keep_empty;
	z->fill = POOL_NONE;
	z->nr_caches = nr_caches;
	z->ext = calloc(z->max_ext, sizeof(struct extent *));
	z->cache = calloc(nr_caches ? nr_caches : 1, sizeof(*z->cache));
	lock_init(&z->lock);
	for (uint32_t i = 0; z->cache && i < nr_caches; i++)
		lock_init(&z->cache[i].lock);
	if (!z->ext || !z->cache)
		return -ENOMEM;
	z->bytes =
		sizeof(*z) + z->max_ext * sizeof(struct extent *) + nr_caches * sizeof(*z->cache);
	return 0;
}

void zone_deinit(struct zone *z)
{
	if (!z->nr_frames)
		return;
	for (uint32_t i = 0; z->ext && i < z->max_ext; i++)
		extent_free(z->ext[i]);
	for (uint32_t i = 0; z->cache && i < z->nr_caches; i++)
		lock_deinit(&z->cache[i].lock);
	lock_deinit(&z->lock);
	free(z->ext);
	free(z->cache);
	memset(z, 0, sizeof(*z));
}

/* The number of caches is data, which the analysis cannot follow. */
void zone_lock_all(struct zone *z) UNCHECKED_LOCKING
{
	for (uint32_t i = 0; i < z->nr_caches; i++)
		lock_take(&z->cache[i].lock);
	lock_take(&z->lock);
}

void zone_unlock_all(struct zone *z) UNCHECKED_LOCKING
{
	lock_give(&z->lock);
	for (uint32_t i = z->nr_caches; i; i--)
		lock_give(&z->cache[i - 1].lock);
}

/* --- lists and counts --- */

static struct pageblock **list_of(struct zone *z, const struct pageblock *pb, unsigned int order)
	NEEDS(z->lock)
{
	return &z->list[pb->isolated ? POOL_LIST_ISOLATED : pb->type][order];
}

static void list_add(struct zone *z, struct pageblock *pb, unsigned int order) NEEDS(z->lock)
{
	struct pageblock **head = list_of(z, pb, order);

	pb->link[order] = (struct pageblock_link){ *head, NULL };
	if (*head)
		(*head)->link[order].prev = pb;
	*head = pb;
	pb->on |= (uint16_t)(1u << order);
}

static void list_del(struct zone *z, struct pageblock *pb, unsigned int order) NEEDS(z->lock)
{
	struct pageblock_link *l = &pb->link[order];

	if (l->prev)
		l->prev->link[order].next = l->next;
	else
		*list_of(z, pb, order) = l->next;
	if (l->next)
		l->next->link[order].prev = l->prev;
	pb->on &= (uint16_t) ~(1u << order);
}

/* Put it on the lists of exactly these orders. */
static void relink(struct zone *z, struct pageblock *pb, uint16_t wanted) NEEDS(z->lock)
{
	uint32_t changed = (uint32_t)(pb->on ^ wanted);

	for (; changed; changed &= changed - 1) {
		unsigned int order = (unsigned int)__builtin_ctz(changed);

		if (wanted >> order & 1)
			list_add(z, pb, order);
		else
			list_del(z, pb, order);
	}
}

static uint64_t *count_of(struct zone *z, const struct pageblock *pb, enum pool_state s)
	NEEDS(z->lock)
{
	return &z->n[pb->type][s == POOL_FREE && pb->isolated ? POOL_ISOLATED : s];
}

static void account(struct zone *z, struct pageblock *pb, enum pool_state from, enum pool_state to,
		    uint32_t nr) NEEDS(z->lock)
{
	if (from == POOL_CACHED)
		from = POOL_USED;
	if (to == POOL_CACHED)
		to = POOL_USED;
	pb->n[from] = (uint16_t)(pb->n[from] - nr);
	pb->n[to] = (uint16_t)(pb->n[to] + nr);
	*count_of(z, pb, from) -= nr;
	*count_of(z, pb, to) += nr;
}

/* --- pairs --- */

static struct pageblock *buddy_of(const struct zone *z, const struct pageblock *pb)
{
	uint32_t b = pb->first / PAGEBLOCK_FRAMES ^ 1u;

	return b < z->nr_blocks ? zone_pageblock(z, b) : NULL;
}

static struct pageblock *head_of(struct pageblock *pb, struct pageblock *buddy)
{
	return pb->first < buddy->first ? pb : buddy;
}

static void pair_split(struct zone *z, struct pageblock *pb) NEEDS(z->lock)
{
	struct pageblock *buddy = buddy_of(z, pb);

	list_del(z, head_of(pb, buddy), POOL_MAX_ORDER);
	pb->paired = buddy->paired = false;
	pageblock_join(pb, 0, PAGEBLOCK_ORDER);
	pageblock_join(buddy, 0, PAGEBLOCK_ORDER);
	relink(z, pb, pb->has);
	relink(z, buddy, buddy->has);
}

static void pair_try(struct zone *z, struct pageblock *pb) NEEDS(z->lock)
{
	struct pageblock *buddy = buddy_of(z, pb);

	if (!buddy || pb->n[POOL_FREE] != PAGEBLOCK_FRAMES ||
	    buddy->n[POOL_FREE] != PAGEBLOCK_FRAMES || pb->type != buddy->type ||
	    pb->isolated != buddy->isolated || pb->paired)
		return;
	pageblock_cut(pb, 0, PAGEBLOCK_ORDER);
	pageblock_cut(buddy, 0, PAGEBLOCK_ORDER);
	pb->paired = buddy->paired = true;
	relink(z, pb, 0);
	relink(z, buddy, 0);
	list_add(z, head_of(pb, buddy), POOL_MAX_ORDER);
}

/* --- frames --- */

static void put_state(struct pageblock *pb, uint32_t off, uint8_t byte)
{
	__atomic_store_n(&pb->state[off], byte, __ATOMIC_RELAXED);
}

static uint8_t get_state(const struct pageblock *pb, uint32_t off)
{
	return __atomic_load_n(&pb->state[off], __ATOMIC_RELAXED);
}

void zone_cut(struct zone *z, struct pageblock *pb, uint32_t off, unsigned int order,
	      enum pool_state to)
{
	if (pb->paired)
		pair_split(z, pb);
	pageblock_cut(pb, off, order);
	for (uint32_t i = 0; i < 1u << order; i++) {
		pb->word[off + i] = POOL_NONE;
		put_state(pb, off + i, (uint8_t)to);
	}
	account(z, pb, POOL_FREE, to, 1u << order);
	relink(z, pb, pb->has);
}

void zone_set_fixed(struct pageblock *pb, uint32_t off, uint32_t nr, bool fixed)
{
	for (; nr--; off++) {
		uint8_t byte = get_state(pb, off);

		if (!(byte & POOL_FIXED) == !fixed)
			continue;
		put_state(pb, off, byte ^ POOL_FIXED);
		pb->nr_fixed = (uint16_t)(pb->nr_fixed + (fixed ? 1 : -1));
	}
}

void zone_set(struct zone *z, struct pageblock *pb, uint32_t off, uint32_t nr, enum pool_state to)
{
	for (; nr--; off++) {
		uint8_t byte = get_state(pb, off);

		assert((byte & POOL_STATE_MASK) != POOL_FREE && off < pb->nr);
		if (byte & POOL_FIXED && to != POOL_RETIRED && to != POOL_USED)
			pb->nr_fixed--;
		account(z, pb, byte & POOL_STATE_MASK, to, 1);
		/* A run stays one while its frames retire. */
		if (to == POOL_RETIRED || to == POOL_USED)
			put_state(pb, off, (uint8_t)((byte & ~POOL_STATE_MASK) | to));
		else
			put_state(pb, off, (uint8_t)to);
		if (to == POOL_FREE)
			pageblock_join(pb, off, 0);
	}
}

bool zone_settle(struct zone *z, struct pageblock *pb)
{
	if (pageblock_is_empty(pb) && !z->keep_empty && !pb->isolated && pb->type != POOL_RESERVE) {
		zone_shrink(z, pb);
		return true;
	}
	if (!pb->paired) {
		relink(z, pb, pb->has);
		pair_try(z, pb);
	}
	return false;
}

/* Does the run of frame f go on behind it? */
static bool has_tail(const struct zone *z, uint32_t f) NEEDS(z->lock)
{
	const struct pageblock *pb =
		f + 1 < z->nr_frames ? zone_pageblock(z, (f + 1) / PAGEBLOCK_FRAMES) : NULL;

	return pb && get_state(pb, (f + 1) % PAGEBLOCK_FRAMES) & POOL_TAIL;
}

/* What follows a frame that came back: its guard comes, too; what is left of its run begins. */
static void part_from_rest(struct zone *z, struct pageblock *pb, uint32_t off, enum pool_state to)
	NEEDS(z->lock)
{
	uint32_t next = off + 1;

	if (next < pb->nr && (get_state(pb, next) & POOL_STATE_MASK) == POOL_GUARD) {
		if (!pb->window) /* its last frame is a guard as long as it is one */
			zone_set(z, pb, next, 1, to);
	} else if (has_tail(z, pb->first + off)) {
		pb = zone_pageblock(z, (pb->first + next) / PAGEBLOCK_FRAMES);
		next %= PAGEBLOCK_FRAMES;
		put_state(pb, next, get_state(pb, next) & (uint8_t)~POOL_TAIL);
	}
}

bool zone_give(struct zone *z, struct pageblock *pb, uint32_t off, uint32_t nr)
{
	enum pool_state to = pb->large ? POOL_HELD : pb->window ? POOL_WINDOW : POOL_FREE;
	/* What is left of its run before it needs a guard. */
	bool guards = z->guard && to == POOL_FREE && off && pageblock_needs_guard(pb, off - 1);

	zone_set(z, pb, off + guards, nr - guards, to);
	part_from_rest(z, pb, off + nr - 1, to);
	if (guards)
		zone_set(z, pb, off, 1, POOL_GUARD);
	if (pb->large)
		return pb->n[POOL_HELD] == pb->nr;
	zone_settle(z, pb);
	return false;
}

uint32_t zone_hold(struct zone *z, struct pageblock *pb)
{
	uint32_t nr = 0;

	for (uint32_t off = 0; off < pb->nr; off++) {
		enum pool_state s = pageblock_state(pb, off);

		if (s == POOL_FREE)
			zone_cut(z, pb, off, 0, POOL_HELD);
		else if (s == POOL_WINDOW || s == POOL_GUARD)
			zone_set(z, pb, off, 1, POOL_HELD);
		else
			continue;
		nr++;
	}
	__atomic_store_n(&pb->large, true, __ATOMIC_RELAXED);
	return nr;
}

void zone_fold(struct zone *z, struct pageblock *pb)
{
	__atomic_store_n(&pb->large, false, __ATOMIC_RELAXED);
	zone_set(z, pb, 0, pb->nr, pb->window ? POOL_WINDOW : POOL_FREE);
	if (pb->window && z->guard)
		zone_set(z, pb, pb->nr - 1u, 1, POOL_GUARD);
	zone_settle(z, pb);
}

/* --- pageblocks --- */

void zone_set_type(struct zone *z, struct pageblock *pb, enum pool_type type)
{
	uint16_t on;

	if (pb->paired)
		pair_split(z, pb);
	on = pb->on;
	relink(z, pb, 0);
	for (int s = 0; s < POOL_STATES; s++)
		*count_of(z, pb, s) -= pb->n[s];
	pb->type = (uint8_t)type;
	for (int s = 0; s < POOL_STATES; s++)
		*count_of(z, pb, s) += pb->n[s];
	relink(z, pb, on);
	pair_try(z, pb);
}

void zone_set_isolated(struct zone *z, struct pageblock *pb, bool isolated)
{
	struct extent *x = zone_extent(z, pb->first / PAGEBLOCK_FRAMES);
	uint64_t bit = u64_bit(pb->first / PAGEBLOCK_FRAMES % EXTENT_PAGEBLOCKS);
	uint16_t on;

	if (pb->paired)
		pair_split(z, pb);
	on = pb->on;
	relink(z, pb, 0);
	*count_of(z, pb, POOL_FREE) -= pb->n[POOL_FREE];
	pb->isolated = isolated;
	x->isolated = isolated ? x->isolated | bit : x->isolated & ~bit;
	*count_of(z, pb, POOL_FREE) += pb->n[POOL_FREE];
	relink(z, pb, on);
	pair_try(z, pb);
}

struct extent *zone_extent_get(struct zone *z, uint32_t block)
{
	struct extent **x = &z->ext[block / EXTENT_PAGEBLOCKS];

	if (!*x) {
		*x = extent_new();
		if (*x) {
			z->bytes += sizeof(**x);
			z->nr_ext++;
		}
	}
	return *x;
}

void zone_extent_drop(struct zone *z, uint32_t block)
{
	struct extent **x = &z->ext[block / EXTENT_PAGEBLOCKS];

	if (!*x || extent_is_needed(*x))
		return;
	extent_free(*x);
	*x = NULL;
	z->bytes -= sizeof(**x);
	z->nr_ext--;
}

bool zone_can_grow(const struct zone *z, uint32_t block)
{
	const struct extent *x;

	if (block >= z->nr_blocks)
		return false;
	x = zone_extent(z, block);
	return !x || extent_absent(x, EXTENT_PAGEBLOCKS) >> block % EXTENT_PAGEBLOCKS & 1;
}

struct pageblock *zone_grow(struct zone *z, uint32_t block, enum pool_type type)
{
	struct extent *x = zone_extent_get(z, block);
	struct pageblock *pb;
	uint64_t bit = u64_bit(block % EXTENT_PAGEBLOCKS);

	if (!x)
		return NULL;
	if (x->reserve & bit)
		type = POOL_RESERVE;
	pb = pageblock_new(block * PAGEBLOCK_FRAMES, zone_block_frames(z, block), type);
	if (!pb) {
		zone_extent_drop(z, block);
		return NULL;
	}
	x->present |= bit;
	x->pb[block % EXTENT_PAGEBLOCKS] = pb;
	pb->isolated = x->isolated & bit;
	z->bytes += sizeof(*pb);
	z->nr_present += pb->nr;
	pb->n[POOL_ABSENT] = 0;
	pb->n[POOL_FREE] = pb->nr;
	*count_of(z, pb, POOL_FREE) += pb->nr;
	memset(pb->state, POOL_FREE, pb->nr);
	for (uint32_t off = 0; off < pb->nr;) {
		unsigned int order = PAGEBLOCK_ORDER;

		while (off & ((1u << order) - 1) || off + (1u << order) > pb->nr)
			order--;
		pageblock_join(pb, off, order);
		off += 1u << order;
	}
	relink(z, pb, pb->has);
	pair_try(z, pb);
	return pb;
}

void zone_shrink(struct zone *z, struct pageblock *pb)
{
	uint32_t block = pb->first / PAGEBLOCK_FRAMES;
	struct extent *x = zone_extent(z, block);

	assert(pageblock_is_empty(pb));
	if (pb->paired)
		pair_split(z, pb);
	relink(z, pb, 0);
	*count_of(z, pb, POOL_FREE) -= pb->nr;
	z->nr_present -= pb->nr;
	z->bytes -= sizeof(*pb);
	x->present &= ~u64_bit(block % EXTENT_PAGEBLOCKS);
	x->pb[block % EXTENT_PAGEBLOCKS] = NULL;
	free(pb);
	zone_extent_drop(z, block);
}

void zone_online(struct zone *z, uint32_t block)
{
	struct extent *x = zone_extent(z, block);
	uint64_t bit = u64_bit(block % EXTENT_PAGEBLOCKS);

	if (!x)
		return;
	x->offline &= ~bit;
	if (x->reserve & ~x->present & ~x->isolated & bit)
		zone_grow(z, block, POOL_RESERVE); /* for want of memory when a frame is wanted */
	zone_extent_drop(z, block);
}

void zone_trim(struct zone *z)
{
	for (int type = 0; type < POOL_TYPES; type++) {
		struct pageblock *pb;

		if (type == POOL_RESERVE)
			continue;
		while ((pb = z->list[type][POOL_MAX_ORDER]))
			zone_shrink(z, pb);
		while ((pb = z->list[type][PAGEBLOCK_ORDER]))
			zone_shrink(z, pb);
	}
}

/* --- check --- */

struct recount {
	uint64_t present, claimed, n[POOL_TYPES][POOL_STATES];
	uint32_t nr_ext;
};

/* Each guard has a run before it, or ends a window. */
static bool guards_are_right(const struct pageblock *pb)
{
	for (uint32_t off = 0; pb->n[POOL_GUARD] && off < pb->nr; off++)
		if (pageblock_state(pb, off) == POOL_GUARD && !(pb->window && off + 1 == pb->nr) &&
		    !(off && pageblock_is_used(pb, off - 1)))
			return false;
	return true;
}

static int check_pageblock(struct zone *z, const struct extent *x, uint32_t b, struct recount *r)
	NEEDS(z->lock)
{
	const struct pageblock *pb = x->pb[b % EXTENT_PAGEBLOCKS], *buddy;
	uint16_t on = pb->has;

	if (pageblock_check(pb) || !guards_are_right(pb) || pb->first != b * PAGEBLOCK_FRAMES ||
	    pb->nr != zone_block_frames(z, b) ||
	    (pb->type == POOL_RESERVE) != !!(x->reserve & u64_bit(b % EXTENT_PAGEBLOCKS)) ||
	    pb->isolated != !!(x->isolated & u64_bit(b % EXTENT_PAGEBLOCKS)))
		return -1;
	buddy = buddy_of(z, pb);
	if (pb->paired && !(b & 1))
		on |= 1u << POOL_MAX_ORDER;
	if (pb->on != on)
		return -1;
	if (pb->paired && (!buddy || !buddy->paired || buddy->type != pb->type ||
			   buddy->isolated != pb->isolated))
		return -1; /* a pair over the edge of an isolated pageblock, or of two types */
	for (unsigned int order = 0; order < POOL_ORDERS; order++)
		if (on >> order & 1 && !pb->link[order].prev && *list_of(z, pb, order) != pb)
			return -1;
	r->present += pb->nr;
	for (uint32_t off = 0; pb->nr_fixed && off < pb->nr; off++)
		r->claimed += pageblock_is_claimed(pb, off);
	for (int s = 0; s < POOL_STATES; s++)
		r->n[pb->type][s == POOL_FREE && pb->isolated ? POOL_ISOLATED : s] += pb->n[s];
	return 0;
}

static int check_all(struct zone *z, struct recount *r) NEEDS(z->lock)
{
	for (uint32_t b = 0; b < z->nr_blocks; b++) {
		const struct extent *x = zone_extent(z, b);
		uint64_t bit = u64_bit(b % EXTENT_PAGEBLOCKS);

		if (!x)
			continue;
		if (b % EXTENT_PAGEBLOCKS == 0) {
			r->nr_ext++;
			if (!extent_is_needed(x))
				return -1;
		}
		if (!(x->present & bit) != !x->pb[b % EXTENT_PAGEBLOCKS] ||
		    x->present & x->offline & bit)
			return -1;
		if (x->present & bit && check_pageblock(z, x, b, r))
			return -1;
	}
	return 0;
}

int zone_check(struct zone *z)
{
	struct recount r = { 0 };
	int err;

	zone_lock_all(z);
	err = check_all(z, &r);
	if (r.claimed != z->nr_claimed || r.present != z->nr_present || r.nr_ext != z->nr_ext ||
	    memcmp(r.n, z->n, sizeof(r.n)))
		err = -1;
	for (uint32_t i = 0; i < z->nr_caches; i++)
		for (uint32_t j = 0; j < z->cache[i].nr; j++) {
			uint32_t f = z->cache[i].frame[j];
			const struct pageblock *pb = zone_pageblock(z, f / PAGEBLOCK_FRAMES);

			if (!pb || pb->isolated ||
			    pageblock_state(pb, f % PAGEBLOCK_FRAMES) != POOL_CACHED)
				err = -1;
		}
	zone_unlock_all(z);
	return err;
}
