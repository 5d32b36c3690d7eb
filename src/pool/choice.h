/* SPDX-License-Identifier: MIT */
/*
 * choice.h - which frames of a zone a user gets, and which pageblocks are reserved as windows.
 *
 * A run of 2^order frames comes from the smallest free run of its type that has room, so pageblocks
 * in use fill up before others are begun. What the type has not is had, in this order: from a
 * pageblock that is absent and comes to exist; from other types. Movable frames may use the reserve
 * (they can be moved out of it again), and do so first while more than half of the free frames are
 * in it. Frames that cannot move never do; a pageblock of the movable type of which they get at
 * least half becomes theirs whole, so that they spoil few pageblocks.
 *
 * A window is a pageblock that somebody reserved, to have frames in it by number. It begins empty.
 * Others get its unused frames when nothing else is left, because the limit on frames is a promise
 * and contiguity is a wish. They do not where frames have guards.
 */
#ifndef KSM_CHOICE_H
#define KSM_CHOICE_H

#include "pool/zone.h"

/*
 * Take a run, order 0..POOL_MAX_ORDER, from lists that are not isolated. With `guard` the frame
 * after the run is kept empty as well, for orders below PAGEBLOCK_ORDER. Its first frame becomes
 * `to`, the others `to` and tails. Returns it, or POOL_NONE: none is free, or memory is short.
 */
uint32_t choice_run(struct zone *z, enum pool_type type, unsigned int order, bool guard,
		    enum pool_state to) NEEDS(z->lock);
/*
 * Take single movable frames for a cache: their numbers, upwards, into v. The same as so many runs
 * of order 0, but in one step where no smaller run is there. Returns how many there were.
 */
uint32_t choice_batch(struct zone *z, uint32_t v[POOL_CACHE_BATCH]) NEEDS(z->lock);

/*
 * Can choice_take() have frame `off` of the pageblock? Where frames have guards it must have room
 * for its own.
 */
static inline bool choice_can_take(const struct zone *z, const struct pageblock *pb, uint32_t off)
{
	if (pb->isolated || pageblock_state(pb, off) != POOL_FREE)
		return !pb->isolated && pageblock_state(pb, off) == POOL_WINDOW;
	return !z->guard || (off + 1 < pb->nr && pageblock_state(pb, off + 1) == POOL_FREE);
}

/* Take this very frame, if it is free, a window's unused one, or in an absent pageblock. */
bool choice_take(struct zone *z, uint32_t f) NEEDS(z->lock);
/* Take an unused frame of any window, or POOL_NONE. */
uint32_t choice_from_window(struct zone *z) NEEDS(z->lock);

/*
 * Reserve a pageblock: number `near` if it is absent or empty; else number `at` (0..63) of an
 * extent that nothing uses; else any that is absent or empty. POOL_NONE: there is none, or memory
 * is short.
 */
uint32_t choice_window(struct zone *z, uint32_t near, uint32_t at) NEEDS(z->lock);
/* The window is reserved no more; its unused frames are free, those used stay so. */
void choice_window_end(struct zone *z, uint32_t block) NEEDS(z->lock);

#endif
