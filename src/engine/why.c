/* SPDX-License-Identifier: MIT */
/*
 * why.c - what has become of a client's pages, range by range, why, and on which nodes they lie.
 *
 * An operator who asks why memory is not merged wants the answer for one part of a program and not
 * a sum over all of it. The states of the items hold it, so nothing is kept for the question: each
 * answer is counted when it is asked for.
 *
 * A client can have millions of blocks. An answer therefore looks at a bounded number of them with
 * the engine lock held, and says where the next one is to go on. Ranges can change between two
 * answers; each is true by itself.
 */
#include <string.h>

#include "engine/block.h"
#include "engine/budget.h"
#include "engine/core.h"
#include "engine/crowd.h"
#include "engine/mm.h"
#include "engine/settle.h"

/* Blocks in one hold of the lock: half a millisecond when none of them is in the cache. */
#define WHY_BLOCKS 2048u

static enum engine_why why_waiting(const struct engine *e, const struct rmap_block *b,
				   unsigned int slot) NEEDS(e->lock)
{
	const struct crowd *c = crowd_at(e, b->item[slot].s.node);

	if (c->ripe)
		return WHY_ORDERED;
	return c->timed ? WHY_DELAYED : WHY_FEW_SHARERS;
}

static enum engine_why why_volatile(const struct engine *e, const struct rmap_block *b,
				    unsigned int slot) NEEDS(e->lock);
static enum engine_why why_volatile(const struct engine *e, const struct rmap_block *b,
				    unsigned int slot)
{
	const struct mm_slot *mm = block_mm(b);
	uint8_t left = rmap_left(b, slot);

	mm_is_of(mm, e);
	if (left & RMAP_LEFT_PINNED)
		return WHY_PINNED;
	if (left & RMAP_LEFT_VMA)
		return budget_is_for_forks(mm) ? WHY_FORK_BUDGET : WHY_VMA_BUDGET;
	if (left & RMAP_LEFT_ARENA)
		return WHY_ARENA_LIMIT;
	if (left & RMAP_LEFT_FORK)
		return WHY_FORK_SHARED;
	if (engine_rests(e))
		return e->held ? WHY_HELD : WHY_DEBT;
	/* Its age counts how often it was found written. */
	return item_age(&b->item[slot]) & 0x0f ? WHY_VOLATILE : WHY_NEW;
}

static enum engine_why why_page(const struct engine *e, const struct rmap_block *b,
				unsigned int slot) NEEDS(e->lock)
{
	switch (rmap_state(b, slot)) {
	case RMAP_MERGED:
		return stable_node(&e->stable, b->item[slot].s.node)->nr_items > 1 ? WHY_MERGED :
										     WHY_ALONE;
	case RMAP_ZEROED:
		return WHY_ZERO;
	case RMAP_ORDERED:
		return WHY_ORDERED;
	case RMAP_UNSTABLE:
		return WHY_UNIQUE;
	case RMAP_WAITING:
		return why_waiting(e, b, slot);
	case RMAP_COWED:
		return WHY_COW_BROKEN;
	case RMAP_FOREIGN:
		return WHY_FOREIGN;
	default:
		return why_volatile(e, b, slot);
	}
}

static void count_block(const struct mm_slot *mm, uint32_t key, struct engine_range *r)
	NEEDS(mm->e->lock)
{
	uint32_t bi = block_find(mm, key);
	const struct rmap_block *b;
	uint64_t pages;

	if (bi == NIL)
		return;
	b = rmap_block(mm->e, bi);
	for (pages = b->tracked & block_mask(key, r->at); pages; pages &= pages - 1)
		r->pages[why_page(mm->e, b, low_bit(pages))]++;
}

/* The next block to look at. In a sparse region it may be far away: then looking costs much. */
static uint64_t next_block(const struct mm_slot *mm, uint64_t addr, const struct region *r)
	NEEDS(mm->e->lock)
{
	uint32_t key = (uint32_t)(addr / BLOCK_BYTES);

	if (block_find(mm, key) != NIL || (r->at.end - addr) / BLOCK_BYTES <= mm->table.cap)
		return addr;
	key = block_first_key(mm, key);
	return key == UINT32_MAX ? r->at.end : u64_min(key * BLOCK_BYTES, r->at.end);
}

/* Count what is from `addr` on in region r. Returns where it stopped: *left blocks are left. */
static uint64_t count_region(const struct mm_slot *mm, const struct region *r, uint64_t addr,
			     uint32_t *left, struct engine_range *out) NEEDS(mm->e->lock)
{
	out->at = (struct span){ addr, r->at.end };
	while (addr < r->at.end && *left) {
		uint64_t at = u64_max(addr, next_block(mm, addr, r));

		/* A look at the whole table counts as one at many blocks. */
		*left -= u64_min(*left, at == addr ? 1 : 1 + mm->table.cap / 16);
		if (at < r->at.end)
			count_block(mm, (uint32_t)(at / BLOCK_BYTES), out);
		addr = u64_min((at / BLOCK_BYTES + 1) * BLOCK_BYTES, r->at.end);
	}
	out->at.end = addr;
	return addr;
}

int engine_why(struct mm_slot *mm, uint64_t from, struct engine_range *v, int max, uint64_t *next)
{
	uint32_t left = WHY_BLOCKS;
	const struct region *r;
	struct region_pos p;
	int nr = 0;

	memset(v, 0, (size_t)max * sizeof(*v));
	engine_lock(mm->e);
	for (p = region_find(mm->regions, from);
	     (r = region_on(mm->regions, p)) && nr < max && left; p = region_after(mm->regions, p))
		from = count_region(mm, r, u64_max(from, r->at.start), &left, &v[nr++]);
	*next = r ? from : KSM_ADDR_END;
	engine_unlock(mm->e);
	return nr;
}

/* --- where --- */

struct stretches {
	struct engine_stretch *v;
	int nr, max;
};

/* False: there is no room for it. */
static bool add_page(struct stretches *s, uint64_t addr, int nid)
{
	struct engine_stretch *last = s->nr ? &s->v[s->nr - 1] : NULL;

	if (last && last->at.end == addr && last->nid == nid) {
		last->at.end += PAGE_BYTES;
		return true;
	}
	if (s->nr == s->max)
		return false;
	s->v[s->nr++] = (struct engine_stretch){ { addr, addr + PAGE_BYTES }, nid };
	return true;
}

/* Merged pages of a block in `at`. Returns the page for which there was no room, or at.end. */
static uint64_t add_block(const struct mm_slot *mm, uint32_t key, struct span at,
			  struct stretches *s) NEEDS(mm->e->lock)
{
	const struct engine *e = mm->e;
	uint32_t bi = block_find(mm, key);
	const struct rmap_block *b;

	if (bi == NIL)
		return at.end;
	b = rmap_block(e, bi);
	for (uint64_t m = b->tracked & block_mask(key, at); m; m &= m - 1) {
		unsigned int slot = low_bit(m);
		uint64_t addr = block_pn(b, slot) * PAGE_BYTES;

		if (rmap_state(b, slot) == RMAP_MERGED &&
		    !add_page(s, addr, stable_node(&e->stable, b->item[slot].s.node)->nid))
			return addr;
	}
	return at.end;
}

/* Returns where it stopped, as count_region(). */
static uint64_t add_region(const struct mm_slot *mm, const struct region *r, uint64_t addr,
			   uint32_t *left, struct stretches *s) NEEDS(mm->e->lock)
{
	while (addr < r->at.end && *left) {
		uint64_t at = u64_max(addr, next_block(mm, addr, r)), end, stop;

		*left -= u64_min(*left, at == addr ? 1 : 1 + mm->table.cap / 16);
		if (at >= r->at.end)
			return r->at.end;
		end = u64_min((at / BLOCK_BYTES + 1) * BLOCK_BYTES, r->at.end);
		stop = add_block(mm, (uint32_t)(at / BLOCK_BYTES), (struct span){ at, end }, s);
		if (stop < end) {
			*left = 0;
			return stop;
		}
		addr = end;
	}
	return addr;
}

int engine_where(struct mm_slot *mm, uint64_t from, struct engine_stretch *v, int max,
		 uint64_t *next)
{
	struct stretches s = { v, 0, max };
	uint32_t left = WHY_BLOCKS;
	const struct region *r;
	struct region_pos p;

	engine_lock(mm->e);
	p = region_find(mm->regions, from);
	while ((r = region_on(mm->regions, p)) && left) {
		from = add_region(mm, r, u64_max(from, r->at.start), &left, &s);
		if (from >= r->at.end)
			p = region_after(mm->regions, p);
	}
	*next = r ? from : KSM_ADDR_END;
	engine_unlock(mm->e);
	return s.nr;
}
