/* SPDX-License-Identifier: MIT */
/* allow.h - how many frames the engine may have in use. */
#ifndef KSM_ALLOW_H
#define KSM_ALLOW_H

#include "engine/core.h"

/* May one more frame be used? Asks the daemon for more when all that it allowed are in use. */
bool allow_frame(struct engine *e) NEEDS(e->lock);
/* Frames may have been freed: tell the daemon of those that are not needed. */
void allow_less(struct engine *e) NEEDS(e->lock);

/*
 * May so many more pages be bound to frames, or given back? At most 64. False: the engine rests
 * until allow_debt_again() finds that there is room.
 */
bool allow_debt(struct engine *e, uint64_t more) NEEDS(e->lock);
void allow_debt_again(struct engine *e) NEEDS(e->lock);

/*
 * May `more` bytes be spent on blocks and regions of this client? False: its user has its share.
 * Nobody can make the engine spend memory without end, by claims about pages for instance.
 */
bool allow_memory(struct mm_slot *mm, uint64_t more) NEEDS(mm->e->lock);
/* Some may have been freed: tell the daemon of what is not needed. */
void allow_memory_less(struct mm_slot *mm) NEEDS(mm->e->lock);

#endif
