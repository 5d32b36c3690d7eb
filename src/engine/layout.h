/* SPDX-License-Identifier: MIT */
/* layout.h - which frame a new stable node gets. */
#ifndef KSM_LAYOUT_H
#define KSM_LAYOUT_H

#include "engine/core.h"

#define WINDOW_PAGES PAGEBLOCK_FRAMES
#define WINDOW_BYTES (WINDOW_PAGES * PAGE_BYTES)

/*
 * Take a frame of NUMA node `nid` for the page (bi, slot) and its partner, an item of another page.
 * Returns its number, which the caller owns, or POOL_NONE: the pool has none, or memory is short.
 * `cache` is the worker's of the pool.
 */
uint32_t layout_frame(struct engine *e, uint32_t bi, unsigned int slot, uint32_t partner, int nid,
		      uint32_t cache) NEEDS(e->lock);
/*
 * The client withdrew the bytes `at`, and its array of regions says so: windows there that no live
 * region reaches into go back to the pool. Frames in them that sites stand on stay used.
 */
void layout_trim(struct mm_slot *mm, struct span at) NEEDS(mm->e->lock);

/*
 * The pool has ended the windows among the frames [first, end): range_isolate_windows(). A page
 * that comes to such a stretch begins another window elsewhere.
 */
void layout_leave(struct engine *e, uint32_t first, uint32_t end) NEEDS(e->lock);

/* First frame of the window of node `nid` that page number pn has, or POOL_NONE: it has none. */
uint32_t layout_window(const struct mm_slot *mm, uint64_t pn, int nid) NEEDS(mm->e->lock);
/*
 * Have a pageblock that is empty be that window, in the place of the one that it may have. Its
 * first frame; POOL_NONE: there is none, or memory is short, and nothing has changed.
 */
uint32_t layout_new_window(struct mm_slot *mm, uint64_t pn, int nid) NEEDS(mm->e->lock);

#endif
