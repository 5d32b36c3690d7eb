/* SPDX-License-Identifier: MIT */
/* hold.h - hold a range of frame mappings still, and know what is in it. All with the lock held. */
#ifndef KSM_HOLD_H
#define KSM_HOLD_H

#include <stdbool.h>
#include <stdint.h>

#include "client/kit.h"
#include "wire/kernel_abi.h"

/* At most so many pages at a time: 2 MiB, near a millisecond. */
#define HOLD_MAX_PAGES 512u

/* Writers to [start, end) wait from here on. Returns 0 or -errno; hold_end() follows either way. */
int hold_begin(const struct kit *k, uint64_t start, uint64_t end);
/* Writers go on; the range is in no userfaultfd afterwards. */
void hold_end(const struct kit *k, uint64_t start, uint64_t end);
/* Write the runs of private pages in [start, end) to v. Returns their number or -errno. */
long hold_private(const struct kit *k, uint64_t start, uint64_t end,
		  struct kabi_page_region v[HOLD_MAX_PAGES]);
/* Could a device be writing to memory of this process? Errs on the side of yes. */
bool hold_may_be_pinned(const struct kit *k);

#endif
