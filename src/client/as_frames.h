/* SPDX-License-Identifier: MIT */
/*
 * as_frames.h - the frame bits: one for each page, set where the page lies in a mapping of frames.
 *
 * A frame whose bit is not set would show through after MADV_DONTNEED, so the bits outlive a table
 * of ranges that was thrown away (as.h, f). Programs may give any length; bits end at KSM_ADDR_END.
 */
#ifndef KSM_AS_FRAMES_H
#define KSM_AS_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/as.h"

bool as_frame_bit(uint64_t addr) NEEDS(as.lock);
/* Set the bits of [start, end). Returns 0, or -ENOMEM: a part was done. */
int as_frames_set(uint64_t start, uint64_t end) NEEDS(as.lock);
void as_frames_clear(uint64_t start, uint64_t end) NEEDS(as.lock);
/* Make room for the bits of [start, end): as_frames_set() cannot fail there. 0 or -ENOMEM. */
int as_frames_reserve(uint64_t start, uint64_t end) NEEDS(as.lock);
/*
 * Find the next run of pages with the bit set in [*start, end): it becomes [*start, *run_end).
 * Returns false, and leaves *run_end alone, when there is none.
 */
bool as_frames_next(uint64_t *start, uint64_t *run_end, uint64_t end) NEEDS(as.lock);

/* Make the first level of the table, once. Returns 0 or -ENOMEM. Context: as as_init(). */
int as_frames_init(void);
/* Call fn for each object of the table: its address (NULL: there is none) and bytes. */
void as_frames_own(void (*fn)(void *arg, const void *p, size_t len), void *arg) NEEDS(as.lock);

#endif
