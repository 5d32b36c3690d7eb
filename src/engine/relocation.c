/* SPDX-License-Identifier: MIT */
/*
 * relocation.c - what clients would need if frames moved: the price, before anything is begun.
 *
 * A mapping ends where the frame of the next page is not the next frame. So frames that move make
 * mappings or save them beside each page that stands on one, in each client, and in each in another
 * way. The price is counted page by page: now, and as it would be. A page that was written after
 * its merge lies in the mapping of the frames beside it, and does not move with them.
 *
 * Safe because it only looks. What has changed when the frames have moved makes the price wrong,
 * and nothing else.
 */
#include "engine/relocation.h"

#include "engine/block.h"
#include "engine/vma.h"

#define HIDDEN 16u /* pages without frames, side by side, that may lie in a mapping */

uint32_t relocation_index(const struct relocation *r, uint32_t from)
{
	uint32_t lo = 0, hi = r->nr;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (r->at[mid].from >= from)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

void relocation_add(struct relocation *r, uint32_t from, uint32_t to)
{
	uint32_t i = relocation_index(r, from);

	assert(r->nr < RELOCATION_FRAMES && (i == r->nr || r->at[i].from != from));
	for (uint32_t k = r->nr++; k > i; k--)
		r->at[k] = r->at[k - 1];
	r->at[i] = (struct relocation_frame){ from, to };
}

/* Of the page at pn: the frame that its mapping shows now, and would show; is it tracked? */
struct view {
	uint32_t now, then;
	bool there;
};

static struct view view_at(const struct relocation *r, const struct mm_slot *mm, uint64_t pn)
	NEEDS(mm->e->lock)
{
	uint32_t bi = block_find(mm, (uint32_t)(pn >> BLOCK_SHIFT));
	struct view v = { FRAME_NONE, FRAME_NONE, false };
	const struct rmap_block *b;
	uint32_t to;

	if (bi == NIL)
		return v;
	b = rmap_block(mm->e, bi);
	v.there = b->tracked & bit64(pn % BLOCK_PAGES);
	v.now = v.then = vma_frame(mm->e, b, pn % BLOCK_PAGES);
	to = rmap_state(b, pn % BLOCK_PAGES) == RMAP_MERGED ? relocation_of(r, v.now) : POOL_NONE;
	if (to != POOL_NONE)
		v.then = to;
	return v;
}

/*
 * Pages that were written after a merge and hashed again lie in the mapping of the frames beside
 * them, and nothing says so (vma.c). So pages without frames are taken for such if behind them the
 * frames go on as if they were. dir: -1 to the left, 1 to the right.
 */
static bool is_spanned(const struct relocation *r, const struct mm_slot *mm, uint64_t pn, int dir,
		       uint32_t frame) NEEDS(mm->e->lock)
{
	for (unsigned int d = 1; d <= HIDDEN && (dir > 0 || pn >= d); d++) {
		struct view v = view_at(r, mm, pn + (uint64_t)((int64_t)d * dir));

		if (!v.there || v.now != FRAME_NONE)
			return v.there && d > 1 && v.now == frame + d * (uint32_t)dir;
	}
	return false;
}

/* Mappings that its client would need more, or fewer, beside this site. */
static int64_t site_price(const struct relocation *r, const struct mm_slot *mm, uint64_t pn)
	NEEDS(mm->e->lock)
{
	struct view v = view_at(r, mm, pn), left = { FRAME_NONE, FRAME_NONE, false }, right;
	int64_t more = 0;

	if (pn)
		left = view_at(r, mm, pn - 1);
	right = view_at(r, mm, pn + 1);
	more += (int64_t)vma_differ(left.then, v.then) - vma_differ(left.now, v.now);
	/* Else it is counted at the page to the right. */
	if (right.now == right.then)
		more += (int64_t)vma_differ(v.then, right.then) - vma_differ(v.now, right.now);
	return more + is_spanned(r, mm, pn, -1, v.now) + is_spanned(r, mm, pn, 1, v.now);
}

int64_t relocation_price(struct engine *e, const struct relocation *r, uint32_t *sites)
{
	int64_t more = 0;

	*sites = 0;
	for (uint32_t i = 0; i < r->nr; i++) {
		uint32_t item;

		if (r->at[i].to == POOL_NONE)
			continue;
		item = stable_node(&e->stable, pool_word(&e->pool, r->at[i].from))->first;
		for (; item != NIL; item = rmap_item(e, item)->s.next) {
			const struct rmap_block *b = rmap_block(e, item / BLOCK_PAGES);

			if (++*sites > RELOCATION_SITES)
				return INT64_MAX;
			mm_is_of(block_mm(b), e);
			more += site_price(r, block_mm(b), block_pn(b, item % BLOCK_PAGES));
		}
	}
	return more;
}
