/* SPDX-License-Identifier: MIT */
/*
 * vma.c - how many mappings a client has because of us, and how many more it may get.
 *
 * The kernel keeps one mapping for neighbours that map adjacent pages of one file, and one for
 * neighbouring anonymous pages. So the mappings that merging adds to a region are exactly its inner
 * boundaries: places where two neighbours do not continue each other. A page that was written
 * after the merge still lies in the file's mapping and counts as standing on its frame. Region
 * edges are not counted: change tracking makes them boundaries anyway.
 *
 * The count is kept on every transition, never recounted, except by engine_check(). It is exact but
 * for pages that were written after a merge and hashed again since: their item has no room for the
 * frame that their mapping shows. The client's own count, sent when it comes to rest, sets that right.
 */
#include "engine/engine_internal.h"

/* Frame that the page's mapping shows at this place, FRAME_NONE for anonymous memory. */
uint32_t vma_frame(const struct engine *e, const struct rmap_block *b, unsigned int slot)
{
	switch (rmap_state(b, slot)) {
	case RMAP_MERGED:
		return stable_node(&e->stable, b->item[slot].s.node)->frame;
	case RMAP_COWED:
		return b->item[slot].c.frame;
	default:
		return FRAME_NONE;
	}
}

uint32_t vma_frame_at(const struct mm_slot *mm, uint64_t pn)
{
	uint32_t bi = rmap_find(mm, (uint32_t)(pn >> BLOCK_SHIFT));

	return bi == NIL ? FRAME_NONE : vma_frame(mm->e, rmap_block(mm->e, bi), pn % BLOCK_PAGES);
}

/* 1 if neighbours on these frames need two mappings. */
unsigned int vma_differ(uint32_t left, uint32_t right)
{
	if (left == FRAME_NONE || right == FRAME_NONE)
		return left != right;
	return right != left + 1;
}

/* The same for the pages before and after addr, 0 when no region of `a` holds both. */
unsigned int vma_boundary(const struct mm_slot *mm, const struct region_array *a, uint64_t addr)
{
	uint32_t i = region_index(a, addr);

	if (i == a->nr || a->r[i]->start >= addr)
		return 0;
	return vma_differ(vma_frame_at(mm, (addr >> PAGE_SHIFT) - 1),
			  vma_frame_at(mm, addr >> PAGE_SHIFT));
}

void vma_changed(struct engine *e, uint32_t bi, unsigned int slot, uint32_t from, uint32_t to)
{
	struct rmap_block *b = rmap_block(e, bi);
	struct mm_slot *mm = block_mm(b);
	uint64_t pn = block_pn(b, slot), addr = pn << PAGE_SHIFT;
	struct region *r = region_at(mm, addr);
	uint32_t other;

	if (!r)
		return;
	if (r->start < addr) {
		other = slot ? vma_frame(e, b, slot - 1) : vma_frame_at(mm, pn - 1);
		mm->vmas_ours += vma_differ(other, to);
		mm->vmas_ours -= vma_differ(other, from);
	}
	if (r->end > addr + PAGE_BYTES) {
		other = slot + 1 < BLOCK_PAGES ? vma_frame(e, b, slot + 1) :
						 vma_frame_at(mm, pn + 1);
		mm->vmas_ours += vma_differ(to, other);
		mm->vmas_ours -= vma_differ(from, other);
	}
}

uint64_t vma_limit(const struct mm_slot *mm)
{
	return (uint64_t)mm->max_map_count * knob_get(mm->e->knobs, KNOB_VMA_BUDGET_PERCENT) / 100;
}

/* All mappings of the process, those that orders under way may add included. */
uint64_t vma_used(const struct mm_slot *mm)
{
	return mm->vmas_own + mm->vmas_ours + mm->vmas_reserved;
}

/*
 * How scarce mappings are, 0 (plenty) to 4 (none left). The steps leave the longer runs a share
 * of what is left each time: half of the budget is for everybody, the last eighth for runs of 16.
 * When a pass is over they are not needed any more; a thirty-second is kept for long runs that may
 * come later.
 */
int vma_level(const struct mm_slot *mm)
{
	uint64_t used = vma_used(mm), limit = vma_limit(mm);

	if (used >= limit)
		return 4;
	if (mm->vmas_released)
		return used < limit - limit / 32 ? 0 : 3;
	if (used * 100 < limit * 50)
		return 0;
	if (used * 100 < limit * 75)
		return 1;
	return used * 100 < limit * 87 ? 2 : 3;
}

/*
 * May pages that need a mapping each wait until the pass is over? Then nothing longer can be found, and they get what
 * is left. If there is not enough for all that wait, frames are made for some of them in vain; so a little more
 * may wait than there is room for, not much more.
 */
bool vma_may_wait(const struct mm_slot *mm)
{
	return vma_used(mm) + mm->nr_ready < vma_limit(mm) + vma_limit(mm) / 8;
}

uint32_t vma_min_run(int level)
{
	static const uint32_t min_run[] = { 1, 2, 4, 16, UINT32_MAX };

	return min_run[level];
}
