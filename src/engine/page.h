/* SPDX-License-Identifier: MIT */
/* page.h - the one place where a page changes its state. */
#ifndef KSM_PAGE_H
#define KSM_PAGE_H

#include "engine/core.h"

/*
 * The one setter. `arg`: tree root number for UNSTABLE; stable node or NODE_ZERO for ORDERED;
 * stable node for MERGED; else unused. A page leaves `pending` whatever happens.
 */
void page_set(struct engine *e, uint32_t bi, unsigned int slot, enum rmap_state state,
	      uint32_t arg);
/* A VOLATILE page waits to be hashed, a MERGED one to be looked at; fresh: not in this pass. */
void page_pend(struct engine *e, uint32_t bi, unsigned int slot, bool fresh);
/* It was dirty once more: wait longer before it is looked at again. */
void page_age(struct rmap_block *b, unsigned int slot);
/* Count a VOLATILE page as left out (RMAP_LEFT_*). */
void page_left_out(struct engine *e, uint32_t bi, unsigned int slot, uint8_t why);
/* Drop what is known of the pages of mask in block bi. The block may be gone afterwards. */
void page_drop(struct mm_slot *mm, uint32_t bi, uint64_t mask);
/* The same for all pages in [start, end), bytes. */
void page_drop_range(struct mm_slot *mm, uint64_t start, uint64_t end);
/* Frame after the one that the page before (bi, slot) is on or bound to; POOL_NONE if on none. */
uint32_t page_frame_after_left(const struct engine *e, uint32_t bi, unsigned int slot);

#endif
