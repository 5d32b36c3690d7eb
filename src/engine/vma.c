/* SPDX-License-Identifier: MIT */
/*
 * vma.c - how many mappings a client has because of merging.
 *
 * The kernel keeps one mapping for neighbours that map adjacent pages of one file, and one for
 * neighbouring anonymous pages. So the mappings that merging adds to a region are exactly its inner
 * boundaries: places where two neighbours do not continue each other. A page that was written
 * after the merge still lies in the file's mapping and counts as standing on its frame. Region
 * edges do not count: change tracking makes them boundaries anyway.
 *
 * Every move of a page keeps the count; only engine_check() recounts. It is exact except for pages
 * that were written after a merge and hashed again since: their item has no room for the frame
 * that their mapping shows. The client's own count, sent when it comes to rest, sets that right.
 *
 * A page that is inlaid (budget.c) is private memory in the mapping of the frames to its left, so
 * it counts as standing on the frame that follows these. It does so for as long as it has no frame
 * of its own and is not dropped.
 */
#include "engine/vma.h"
#include "engine/block.h"
#include "engine/mm.h"

static uint32_t later(uint32_t frame, unsigned int pages)
{
	return frame == FRAME_NONE ? FRAME_NONE : frame + pages;
}

/* The frame behind a page that is inlaid goes on from the page that its run begins with. */
static uint32_t behind(const struct engine *e, const struct rmap_block *b, unsigned int slot)
	NEEDS(e->lock)
{
	uint64_t hosts = slot ? ~b->inlaid & mask64(0, slot) : 0;
	unsigned int host;

	if (!hosts)
		return FRAME_NONE;
	host = high_bit(hosts);
	return later(vma_frame(e, b, host), slot - host);
}

uint32_t vma_frame(const struct engine *e, const struct rmap_block *b, unsigned int slot)
{
	switch (rmap_state(b, slot)) {
	case RMAP_MERGED:
		return bound_frame(e, b, slot);
	case RMAP_COWED:
		return b->item[slot].c.frame;
	default:
		return b->inlaid & bit64(slot) ? behind(e, b, slot) : FRAME_NONE;
	}
}

uint32_t vma_frame_at(const struct mm_slot *mm, uint64_t pn)
{
	uint32_t bi = block_find(mm, (uint32_t)(pn >> BLOCK_SHIFT));

	return bi == NIL ? FRAME_NONE : vma_frame(mm->e, rmap_block(mm->e, bi), pn % BLOCK_PAGES);
}

void vma_row(const struct mm_slot *mm, uint32_t bi, uint32_t frame[VMA_ROW])
{
	const struct rmap_block *b = rmap_block(mm->e, bi);
	uint64_t pn = block_pn(b, 0);

	frame[0] = pn ? vma_frame_at(mm, pn - 1) : FRAME_NONE;
	for (unsigned int i = 0; i < BLOCK_PAGES; i++)
		frame[i + 1] = vma_frame(mm->e, b, i);
	frame[BLOCK_PAGES + 1] = vma_frame_at(mm, pn + BLOCK_PAGES);
}

unsigned int vma_differ(uint32_t left, uint32_t right)
{
	if (left == FRAME_NONE || right == FRAME_NONE)
		return left != right;
	return right != left + 1;
}

unsigned int vma_boundary(const struct mm_slot *mm, const struct region_array *a, uint64_t addr)
{
	const struct region *r = region_on(a, region_find(a, addr));

	if (!r || r->at.start >= addr)
		return 0;
	return vma_differ(vma_frame_at(mm, (addr >> PAGE_SHIFT) - 1),
			  vma_frame_at(mm, addr >> PAGE_SHIFT));
}

void vma_changed(struct engine *e, uint32_t bi, unsigned int slot, uint32_t from, uint32_t to)
{
	const struct rmap_block *b = rmap_block(e, bi);
	struct mm_slot *mm = block_mm(b);
	uint64_t pn = block_pn(b, slot), addr = pn << PAGE_SHIFT;
	const struct region *r;
	unsigned int more = 0;
	uint32_t other;

	mm_is_of(mm, e);
	r = region_at(mm, addr);
	if (!r)
		return;
	/* What is inlaid behind goes along, so the boundary to the right is behind that. */
	while (slot + more + 1 < BLOCK_PAGES && (b->inlaid & bit64(slot + more + 1)))
		more++;
	if (r->at.start < addr) {
		other = slot ? vma_frame(e, b, slot - 1) : vma_frame_at(mm, pn - 1);
		vma_count(mm, (uint64_t)vma_differ(other, to) - vma_differ(other, from));
	}
	pn += more;
	slot += more;
	addr = (pn + 1) << PAGE_SHIFT;
	if (more)
		r = region_at(mm, addr);
	if (r && r->at.start < addr && r->at.end > addr) {
		other = slot + 1 < BLOCK_PAGES ? vma_frame(e, b, slot + 1) :
						 vma_frame_at(mm, pn + 1);
		vma_count(mm, (uint64_t)vma_differ(later(to, more), other) -
				      vma_differ(later(from, more), other));
	}
}
