/* SPDX-License-Identifier: MIT */
/* glance.h - what a worker looks at with the lock released, and what raced with that. */
#ifndef KSM_GLANCE_H
#define KSM_GLANCE_H

#include "engine/core.h"

/*
 * Begin to glance at *at of a client, cut back at its end to leave out blocks with an order under
 * way. False: *at begins in such a block; at->end is where to go on. Of a dead client nothing is
 * glanced at, and that is true as well.
 */
bool glance_open(struct glance *t, struct mm_slot *mm, struct span *at) NEEDS(mm->e->lock);
void glance_close(struct glance *t, struct mm_slot *mm) NEEDS(mm->e->lock);
/* DEL, FORGET or ADOPT touch these pages: what any worker saw of them just now may be older. */
void glance_race(struct mm_slot *mm, struct span at) NEEDS(mm->e->lock);
/* Has such a message touched the page since glance_open()? */
bool glance_raced(const struct glance *t, uint64_t addr);
/* Does any worker glance at a part of this range of the client? */
bool glance_meets(const struct mm_slot *mm, struct span at) NEEDS(mm->e->lock);

#endif
