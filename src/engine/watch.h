/* SPDX-License-Identifier: MIT */
/* watch.h - what a worker looks at with the lock released, and what raced with that. */
#ifndef KSM_WATCH_H
#define KSM_WATCH_H

#include "engine/core.h"

/*
 * Begin to watch *at of a client, cut back at its end to leave out blocks with an order under way.
 * False: *at begins in such a block; at->end is where to go on. Of a dead client nothing is
 * watched, and that is true as well.
 */
bool watch_open(struct watch *t, struct mm_slot *mm, struct span *at) NEEDS(mm->e->lock);
void watch_close(struct watch *t, struct mm_slot *mm) NEEDS(mm->e->lock);
/* DEL, FORGET or ADOPT touch these pages: what any worker saw of them just now may be older. */
void watch_race(struct mm_slot *mm, struct span at) NEEDS(mm->e->lock);
/* Has such a message touched the page since watch_open()? */
bool watch_raced(const struct watch *t, uint64_t addr);
/* Does any worker watch a part of this range of the client? */
bool watch_meets(const struct mm_slot *mm, struct span at) NEEDS(mm->e->lock);

#endif
