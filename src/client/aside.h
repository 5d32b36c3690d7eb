/* SPDX-License-Identifier: MIT */
/* aside.h - a mapping that is made elsewhere, with all that it needs, and then moved into place. */
#ifndef KSM_ASIDE_H
#define KSM_ASIDE_H

#include <stddef.h>
#include <stdint.h>

#include "client/as.h"
#include "client/as_ranges.h"
#include "client/kit.h"

/*
 * Map frames from `frame` on, len bytes, as they are to stand at `to`: with the advice of the range
 * there, dumped as private memory is, and with their page tables filled. NULL: that cannot be had.
 * Context: the agent. Whatever is not moved away is the caller's to unmap.
 */
uint8_t *aside_frames(const struct kit *k, uint32_t frame, size_t len, uint64_t to) NEEDS(as.lock);
/*
 * Map zeros for a place in range r, with its advice and policy. They can be read and written; the
 * caller gives them the range's protection. Returns the address, or -ENOMEM.
 */
long aside_zeros(size_t len, const struct as_range *r) NEEDS(as.lock);
/*
 * Move what was made aside over `to`. Returns 0; or -errno, and what was there still stands. Where
 * the kernel took that away before it failed, this tries until it succeeds: what was made aside is
 * all there is of the contents then.
 */
long aside_move(uint64_t from, size_t len, uint64_t to);

#endif
