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
#include "engine/budget.h"
#include "engine/mm.h"
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

/* What is asked: the frames [first, end) of the way; and the answer so far. */
struct question {
	const struct relocation *way;
	uint32_t first, end;
	const struct mm_slot *favoured;
	struct relocation_price price;
};

/* Of the page at pn: the frame that its mapping shows now, and would show; is it tracked? */
struct view {
	uint32_t now, then;
	bool there;
};

static struct view view_at(const struct question *q, const struct mm_slot *mm, uint64_t pn)
	NEEDS(mm->e->lock)
{
	uint32_t bi = block_find(mm, (uint32_t)(pn >> BLOCK_SHIFT));
	struct view v = { FRAME_NONE, FRAME_NONE, false };
	const struct rmap_block *b;
	uint32_t i;

	if (bi == NIL)
		return v;
	b = rmap_block(mm->e, bi);
	v.there = b->tracked & bit64(pn % BLOCK_PAGES);
	v.now = v.then = vma_frame(mm->e, b, pn % BLOCK_PAGES);
	if (rmap_state(b, pn % BLOCK_PAGES) != RMAP_MERGED)
		return v;
	i = relocation_index(q->way, v.now);
	if (i == q->way->nr || q->way->at[i].from != v.now || q->way->at[i].to == POOL_NONE)
		return v;
	v.then = q->way->at[i].to;
	if (i < q->first || i >= q->end)
		v.now = v.then;
	return v;
}

/*
 * Pages that were written after a merge and hashed again lie in the mapping of the frames beside
 * them, and nothing says so (vma.c). So pages without frames are taken for such if behind them the
 * frames go on as if they were. dir: -1 to the left, 1 to the right.
 */
static bool is_spanned(const struct question *q, const struct mm_slot *mm, uint64_t pn, int dir,
		       uint32_t frame) NEEDS(mm->e->lock)
{
	for (unsigned int d = 1; d <= HIDDEN && (dir > 0 || pn >= d); d++) {
		struct view v = view_at(q, mm, pn + (uint64_t)((int64_t)d * dir));

		if (!v.there || v.now != FRAME_NONE)
			return v.there && d > 1 && v.now == frame + d * (uint32_t)dir;
	}
	return false;
}

/* Does the client need more mappings for its pages than the one that is favoured? */
static bool is_worse_off(const struct question *q, const struct mm_slot *mm) NEEDS(mm->e->lock)
{
	const struct mm_slot *f = q->favoured;

	return f &&
	       mm->vmas_ours * f->nr_state[RMAP_MERGED] > f->vmas_ours * mm->nr_state[RMAP_MERGED];
}

/*
 * At some place a client would need so many mappings more. If it is short of them its budget would
 * refuse the page (budget.c), which then keeps the old frame beside the new one.
 */
static void count(struct question *q, const struct mm_slot *mm, int64_t more, bool worse_off)
	NEEDS(mm->e->lock)
{
	q->price.refused |= more > 0 && budget_level(mm);
	q->price.more += more;
	q->price.expected += more > 0 && worse_off ? more : 2 * more;
}

/* What its client would need more, or fewer, beside this site; edges of regions stay. */
static void price_site(struct question *q, const struct mm_slot *mm, uint64_t pn) NEEDS(mm->e->lock)
{
	const struct region *r = region_at(mm, pn << PAGE_SHIFT);
	struct view v = view_at(q, mm, pn), left, right;
	bool worse_off = is_worse_off(q, mm);

	if (r && r->at.start < pn << PAGE_SHIFT) {
		left = view_at(q, mm, pn - 1);
		count(q, mm, (int64_t)vma_differ(left.then, v.then) - vma_differ(left.now, v.now),
		      worse_off);
		count(q, mm, is_spanned(q, mm, pn, -1, v.now), false);
	}
	if (r && r->at.end > (pn + 1) << PAGE_SHIFT) {
		right = view_at(q, mm, pn + 1);
		/* Else it is counted at the page to the right. */
		if (right.now == right.then)
			count(q, mm,
			      (int64_t)vma_differ(v.then, right.then) -
				      vma_differ(v.now, right.now),
			      worse_off);
		count(q, mm, is_spanned(q, mm, pn, 1, v.now), false);
	}
}

struct relocation_price relocation_price(struct engine *e, const struct relocation *r,
					 uint32_t first, uint32_t end,
					 const struct mm_slot *favoured)
{
	struct question q = { .way = r, .first = first, .end = end, .favoured = favoured };

	for (uint32_t i = first; i < end; i++) {
		uint32_t item;

		if (r->at[i].to == POOL_NONE)
			continue;
		item = stable_node(&e->stable, pool_word(&e->pool, r->at[i].from))->first;
		for (; item != NIL; item = rmap_item(e, item)->s.next) {
			const struct rmap_block *b = rmap_block(e, item / BLOCK_PAGES);

			if (++q.price.sites > RELOCATION_SITES) {
				q.price.too_many = true;
				return q.price;
			}
			mm_is_of(block_mm(b), e);
			price_site(&q, block_mm(b), block_pn(b, item % BLOCK_PAGES));
		}
	}
	return q.price;
}
