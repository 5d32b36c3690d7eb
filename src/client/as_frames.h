/* SPDX-License-Identifier: MIT */
/* as_frames.h - the frame bits: one for each page, set where the page lies in a mapping of frames. */
#ifndef KSM_AS_FRAMES_H
#define KSM_AS_FRAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "client/as.h"

/* Two levels: as.frames_l1 has a slot for each GiB of addresses. */
#define GIB_SHIFT 30
#define L1_SLOTS (KSM_ADDR_END >> GIB_SHIFT)
#define BITS_BYTES ((1ul << (GIB_SHIFT - KSM_PAGE_SHIFT)) / 8)

/* Frame bits. Lock held. as_frames_set returns 0 or -ENOMEM. */
bool as_frame_bit(uint64_t addr) NEEDS(as.lock);
int as_frames_set(uint64_t start, uint64_t end) NEEDS(as.lock);
/* Room for the bits of [start, end): after that as_frames_set() cannot fail. 0 or -ENOMEM. */
int as_frames_reserve(uint64_t start, uint64_t end) NEEDS(as.lock);
void as_frames_clear(uint64_t start, uint64_t end) NEEDS(as.lock);
/* Next run of pages with the bit set in [*start, end); returns false when there is none. */
bool as_frames_next(uint64_t *start, uint64_t *run_end, uint64_t end) NEEDS(as.lock);

#endif
