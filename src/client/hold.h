/* SPDX-License-Identifier: MIT */
/* hold.h - hold a range of frame mappings still, and know what is in it. */
#ifndef KSM_HOLD_H
#define KSM_HOLD_H

#include <stdbool.h>
#include <stdint.h>

#include "client/as.h"
#include "client/kit.h"
#include "wire/kernel_abi.h"

/* At most so many pages at a time: 2 MiB, near a millisecond. */
#define HOLD_MAX_PAGES 512u

/* Writers to [start, end) wait from here on. Returns 0 or -errno; hold_end() follows either way. */
int hold_begin(const struct kit *k, uint64_t start, uint64_t end) NEEDS(as.lock);
/* Writers go on; the range is in no userfaultfd afterwards. */
void hold_end(const struct kit *k, uint64_t start, uint64_t end) NEEDS(as.lock);
/* Write the runs of private pages in [start, end) to v. Their number, or -errno. Any context. */
long hold_private(const struct kit *k, uint64_t start, uint64_t end,
		  struct kabi_page_region v[HOLD_MAX_PAGES]);
/*
 * Which of at most KSM_ORDER_PAGES pages are present and the file's, and which private? Bit n is
 * page n from `start` on. Returns 0 or -errno. Any context.
 */
int hold_look(const struct kit *k, uint64_t start, uint64_t end, uint64_t *frames,
	      uint64_t *private);
/* Every page from `start` up to where is present and the file's? At most `end`. Any context. */
uint64_t hold_frames_end(const struct kit *k, uint64_t start, uint64_t end);
/* Could a device be writing to memory of this process? Errs on the side of yes. Any context. */
bool hold_may_be_pinned(const struct kit *k);

#endif
