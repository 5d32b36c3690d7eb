/* SPDX-License-Identifier: MIT */
/*
 * page.h - the one place where a page changes its state.
 *
 * These functions record, and decide nothing: a stable node that loses a page is only noted, and
 * settle.c does what follows from it when the lock is let go.
 */
#ifndef KSM_PAGE_H
#define KSM_PAGE_H

#include "engine/core.h"

/*
 * The one setter. `arg`: tree root number for UNSTABLE; crowd for WAITING; stable node or NODE_ZERO
 * for ORDERED; stable node for MERGED; else unused. The page leaves `pending` in any case. A move
 * that the table does not allow ends the process.
 */
void page_set(struct engine *e, uint32_t bi, unsigned int slot, enum rmap_state state, uint32_t arg)
	NEEDS(e->lock);
/*
 * Bind a page that nobody read to this node, or NODE_ZERO, by a guess: its hash becomes the node's.
 */
void page_set_guessed(struct engine *e, uint32_t bi, unsigned int slot, uint32_t node)
	NEEDS(e->lock);
/*
 * Order a site to the node `to`, which has the same contents; all sites of a node that are under
 * way go to the same. page_set() to MERGED with that node is its arrival. Until then it is a site
 * of its old node, and counts as an order of the new one.
 */
void page_move(struct engine *e, uint32_t bi, unsigned int slot, uint32_t to) NEEDS(e->lock);
/* The site stays where it is, if it was to move. */
void page_move_end(struct engine *e, uint32_t bi, unsigned int slot) NEEDS(e->lock);
/* The frame of a LIVE node lies on NUMA node `nid` now: stable_set_nid(), and its sites count. */
void page_node_moved(struct engine *e, uint32_t node, int nid) NEEDS(e->lock);
/*
 * A VOLATILE or WAITING page is to be hashed, an UNSTABLE one to be hashed again, a MERGED one to
 * be looked at; fresh: not in this pass.
 */
void page_pend(struct engine *e, uint32_t bi, unsigned int slot, bool fresh) NEEDS(e->lock);
/* The page was dirty once more: wait longer before it is looked at again. */
void page_age(struct rmap_block *b, unsigned int slot);
/*
 * The client says that the page has become private memory in the mapping of the frames to its left.
 * A page that was dropped meanwhile is left alone.
 */
void page_inlaid(struct engine *e, uint32_t bi, unsigned int slot) NEEDS(e->lock);
/* Count a VOLATILE page as left out; why: one of RMAP_LEFT. */
void page_left_out(struct engine *e, uint32_t bi, unsigned int slot, uint8_t why) NEEDS(e->lock);

/* Forget the pages of mask in block bi. The block may be gone afterwards. */
void page_drop(struct mm_slot *mm, uint32_t bi, uint64_t mask) NEEDS(mm->e->lock);
/* Forget all pages of a client in `at`, bytes, not empty; the table shrinks. */
void page_drop_range(struct mm_slot *mm, struct span at) NEEDS(mm->e->lock);

/* Was the page before (bi, slot) given back because it is zero, or is it about to be? */
bool page_left_is_zero(const struct engine *e, uint32_t bi, unsigned int slot) NEEDS(e->lock);
/* Frame after the one that the page before (bi, slot) is on or bound to; POOL_NONE if on none. */
uint32_t page_frame_after_left(const struct engine *e, uint32_t bi, unsigned int slot)
	NEEDS(e->lock);

#endif
