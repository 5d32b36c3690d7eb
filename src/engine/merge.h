/* SPDX-License-Identifier: MIT */
/* merge.h - from equal hashes to pages that are bound to a stable node. */
#ifndef KSM_MERGE_H
#define KSM_MERGE_H

#include "engine/core.h"

/*
 * A VOLATILE, COWED, FOREIGN or WAITING page was just read and hashed. Bind it to the zero page or
 * to a frame of its content, or put it into the unstable tree or a crowd: then NIL. Or return the
 * item of its partner, which is in the unstable tree or in its crowd, or is `hint` (an item that
 * should be equal, or NIL): the two need a new frame, and the caller goes on with merge_pair().
 */
uint32_t merge_page(struct engine *e, uint32_t bi, unsigned int slot, uint64_t hash, bool zero,
		    int nid, uint32_t hint) NEEDS(e->lock);
/*
 * Bind the page and its partner to a new node for `frame`, which the pool has given (POOL_NONE: it
 * has none to give). Returns the node, whose bytes the caller must see to (fill.c), or NIL: then
 * the frame is free again, and the page backs off.
 */
uint32_t merge_pair(struct engine *e, uint32_t bi, unsigned int slot, uint32_t partner,
		    uint32_t frame, int nid) NEEDS(e->lock);
/*
 * What the page needs, a frame or that its node is known, is not to be had. It backs off, because a
 * worker hashes it again until it is.
 */
void merge_later(struct engine *e, uint32_t bi, unsigned int slot) NEEDS(e->lock);
/* The page and its partner are equal, and no frame is allowed: it is left out, and backs off. */
void merge_leave_out(struct engine *e, uint32_t bi, unsigned int slot) NEEDS(e->lock);
/*
 * A page is alone on a frame that no client was told of: its partner was refused or has gone. It
 * goes back into the unstable tree, or waits to be hashed; the node goes when the lock is let go.
 */
void merge_unbind_lonely(struct engine *e, uint32_t bi, unsigned int slot) NEEDS(e->lock);

#endif
