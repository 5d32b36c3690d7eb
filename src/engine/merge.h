/* SPDX-License-Identifier: MIT */
/* merge.h - from equal hashes to pages that are bound to a stable node. */
#ifndef KSM_MERGE_H
#define KSM_MERGE_H

#include "engine/core.h"

/*
 * `page`: where the worker's buffer has its bytes. hint: an item that should be equal, or NIL.
 * Returns the item that it was paired with, or NIL.
 */
uint32_t merge_page(struct scan_worker *w, struct engine *e, uint32_t bi, unsigned int slot,
		    uint64_t hash, bool zero, int nid, unsigned int page, uint32_t hint);
/* No lock held: write the new frames, and let orders for them go. */
void merge_fill(struct scan_worker *w, struct engine *e);
/* A page that was not read goes to the frame of this node, if the client finds them equal. */
void merge_bind(struct engine *e, uint32_t bi, unsigned int slot, uint32_t node);
void merge_unbind_lonely(struct engine *e, uint32_t bi, unsigned int slot);

#endif
