/* SPDX-License-Identifier: MIT */
/* vma.h - how many mappings a client has because of merging. */
#ifndef KSM_VMA_H
#define KSM_VMA_H

#include "engine/core.h"

/* Frame that the page's mapping shows at this place, FRAME_NONE for anonymous memory. */
uint32_t vma_frame(const struct engine *e, const struct rmap_block *b, unsigned int slot)
	NEEDS(e->lock);
/* The same for page number pn of the client. */
uint32_t vma_frame_at(const struct mm_slot *mm, uint64_t pn) NEEDS(mm->e->lock);
/*
 * Frames of a block's pages, and of the pages before and behind it: index 0 is the page before
 * slot 0.
 */
#define VMA_ROW (BLOCK_PAGES + 2)
void vma_row(const struct mm_slot *mm, uint32_t bi, uint32_t frame[VMA_ROW]) NEEDS(mm->e->lock);
/* 1 if neighbours on these frames need two mappings, else 0. */
unsigned int vma_differ(uint32_t left, uint32_t right);
/* The same for the pages before and after addr; 0 when no region of `a` holds both. */
unsigned int vma_boundary(const struct mm_slot *mm, const struct region_array *a, uint64_t addr)
	NEEDS(mm->e->lock);
/* Mappings that merging has added to a client are so many more, or fewer; in both sums. */
static inline void vma_count(struct mm_slot *mm, uint64_t more) NEEDS(mm->e->lock)
{
	mm->vmas_ours += more;
	mm->e->vmas_ours += more;
}

/* A page has left frame `from` for `to` (FRAME_NONE: none): keep mm->vmas_ours right. */
void vma_changed(struct engine *e, uint32_t bi, unsigned int slot, uint32_t from, uint32_t to)
	NEEDS(e->lock);

#endif
