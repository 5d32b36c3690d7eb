/* SPDX-License-Identifier: MIT */
/* unshare.h - give memory that stands on frames back as private anonymous memory. */
#ifndef KSM_UNSHARE_H
#define KSM_UNSHARE_H

#include <stdint.h>

#include "client/headroom.h"
#include "client/kit.h"

/*
 * Make every page of [start, end) that stands on a frame private. Returns 0, or -ENOMEM: some
 * pages still stand on frames. With a kit that has no userfaultfd (KIT_NONE) the kernel breaks the
 * sharing page by page; that is the way of a thread that is not the agent. Takes the lock of as.h,
 * in steps of at most HOLD_MAX_PAGES pages. `room`: take no more than there is room for, else
 * -ENOMEM; NULL: whatever it takes.
 */
int unshare_range(const struct kit *k, uint64_t start, uint64_t end, struct headroom *room);
/*
 * The same, and pages that broke copy-on-write leave the mapping of frames, too, unless a device
 * may have them pinned. The daemon is told to forget the range. Context: the agent.
 */
int unshare_mapping(const struct kit *k, uint64_t start, uint64_t end, struct headroom *room);
/*
 * Anonymous memory for what ops_withdraw.c has left in mappings of frames, where nothing has been
 * offered since. What may be pinned stays. Context: the agent.
 */
void unshare_withdrawn(const struct kit *k);

#endif
