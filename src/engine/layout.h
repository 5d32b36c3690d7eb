/* SPDX-License-Identifier: MIT */
/* layout.h - which frame number a new stable node gets. */
#ifndef KSM_LAYOUT_H
#define KSM_LAYOUT_H

#include "engine/core.h"

/* Frame for a page and its partner, taken from the pool; POOL_NONE when there is none. */
uint32_t layout_frame(struct engine *e, uint32_t bi, unsigned int slot, uint32_t partner, int nid)
	NEEDS(e->lock);
/* A range was withdrawn: windows that no live region reaches into go back to the pool. */
void layout_trim(struct mm_slot *mm, uint64_t start, uint64_t end) NEEDS(mm->e->lock);

#endif
