/* SPDX-License-Identifier: MIT */
/* huge.h - memory in huge pages, of which change tracking does not tell when it is written. */
#ifndef KSM_HUGE_H
#define KSM_HUGE_H

#include "engine/core.h"

/*
 * A huge page maps this block. True: its pages that were hashed before are to be hashed again in
 * this pass.
 */
bool huge_seen(struct mm_slot *mm, uint32_t bi) NEEDS(mm->e->lock);
/* Did a huge page map this block when it was looked at last? */
bool huge_is(const struct mm_slot *mm, uint32_t bi) NEEDS(mm->e->lock);
/* None does any more: change tracking has told of its pages, and calls them written rightly now. */
void huge_end(struct mm_slot *mm, uint32_t bi) NEEDS(mm->e->lock);
/*
 * A page that waits for its hash has this one. True: it is a page in a huge page, or was in one,
 * that has been written since it was hashed last; it was noted, and waits.
 */
bool huge_changed(struct engine *e, uint32_t bi, unsigned int slot, uint64_t hash) NEEDS(e->lock);

#endif
