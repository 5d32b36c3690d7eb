/* SPDX-License-Identifier: MIT */
/* see.h - what change tracking says of pages, and what that means for each. */
#ifndef KSM_SEE_H
#define KSM_SEE_H

#include "engine/core.h"

#define SEE_RANGES 512 /* written runs fetched per call */

/*
 * [unlocked] Ask change tracking for *at and take in what it says. Returns the number of ranges in
 * v[SEE_RANGES], or a negative errno (-EBUSY: *at begins in a block with an order under way);
 * at->end: where to go on. `dense`: as TRACK_DENSE.
 */
int see_track(struct scan_worker *w, struct mm_slot *mm, struct span *at, bool dense,
	      struct track_range *v) NEEDS_NOT(mm->e->lock);
/*
 * [unlocked] Look for pages that are there though tracking will not report them (unseen.h), from
 * the start of *at on, with room for v[SEE_RANGES]. One call; at->start: where to go on. Adds the
 * pages that it found to *pages. Returns 0 or -ESRCH.
 */
int see_clean(struct scan_worker *w, struct mm_slot *mm, struct span *at, struct track_range *v,
	      uint64_t *pages) NEEDS_NOT(mm->e->lock);
/*
 * [unlocked] Look at what is there now at the sites of this block that are pending. Returns 0 or
 * -ESRCH. Those that cannot be looked at stay pending.
 */
int see_sites(struct scan_worker *w, struct mm_slot *mm, uint32_t key) NEEDS_NOT(mm->e->lock);

#endif
