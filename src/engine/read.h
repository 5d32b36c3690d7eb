/* SPDX-License-Identifier: MIT */
/* read.h - pages are read and hashed, and find their like. */
#ifndef KSM_READ_H
#define KSM_READ_H

#include "engine/core.h"

/*
 * [unlocked] Deal with all pages of `mask` in the block of that key. *budget goes down by one for
 * each. Returns 0, -ESRCH (the client is gone) or -ENOMEM (the pages go on waiting).
 */
int read_pages(struct scan_worker *w, struct mm_slot *mm, uint32_t key, uint64_t mask,
	       int64_t *budget) NEEDS_NOT(mm->e->lock);
/* [unlocked] The same for the pages of a range that tracking has shown for the first time. */
int read_new(struct scan_worker *w, struct mm_slot *mm, struct span at, int64_t *budget)
	NEEDS_NOT(mm->e->lock);
/* Free the workers' buffers: nobody scans, or the engine is about to be freed. */
void read_drop_buffers(struct engine *e);

#endif
