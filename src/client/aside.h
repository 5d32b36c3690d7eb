/* SPDX-License-Identifier: MIT */
/* aside.h - a mapping that is made elsewhere, with all that it needs, and then moved into place. */
#ifndef KSM_ASIDE_H
#define KSM_ASIDE_H

#include <stdbool.h>
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
 * A sheet: one private mapping of all frames of an order, from the lowest to the highest, with no
 * page in it. Pieces of it are put into place while it stays as it is. That costs a third of a
 * mapping that is made for one piece. A sheet lasts no longer than a transaction.
 *
 * Invariant: at is 0, or the sheet is mapped there with the advice in `flags`.
 */
struct aside_sheet {
	uint64_t at;
	size_t len;     /* bytes; 0: the order has no use for one, or it cannot be had */
	uint32_t frame; /* its first */
	uint32_t flags; /* AS_DONTFORK, AS_DONTDUMP */
	uint64_t edge;  /* where the newest piece ends */
	bool inlays;    /* some of its pieces are to have private pages: inlay.h */
};

/*
 * Do frames from `frame` on stand, or would they, in the mapping of the newest arena that is at
 * addr? Returns the end of the mapping then, else 0: also where the kernel cannot say (Linux 6.11
 * can).
 */
uint64_t aside_stands(const struct kit *k, uint64_t addr, uint64_t frame);
/* Look whether the kernel promises more memory than there is: kit.commit_limited. */
void aside_look(struct kit *k);
/* Begin a sheet for those frames of the order that stand for pages of `set`. It maps nothing. */
void aside_sheet_begin(struct aside_sheet *s, const struct kit *k, const struct ksm_msg_order *m,
		       uint64_t set);
/*
 * Are frames from `frame` on, len bytes, best taken from the sheet if they are to stand at `to`?
 * It is made then, if it was not. No: aside_frames() does it.
 */
bool aside_sheet_has(struct aside_sheet *s, const struct kit *k, uint32_t frame, size_t len,
		     uint64_t to) NEEDS(as.lock);
/*
 * Is there a sheet for a piece from `frame` on that is to stand at `to`, and to have private pages?
 * It is made if need be, and registered for missing pages.
 */
bool aside_sheet_inlays(struct aside_sheet *s, const struct kit *k, uint32_t frame, uint64_t to)
	NEEDS(as.lock);
/*
 * Put a piece over `to`. Returns 0 or -errno, as mremap(2); then it may have unmapped what was
 * there. The piece has no page tables, and no dump has it before aside_sheet_show().
 */
long aside_sheet_place(struct aside_sheet *s, uint32_t frame, size_t len, uint64_t to)
	NEEDS(as.lock);
/* Let dumps have the pieces in [start, end), if they may have that memory. */
void aside_sheet_show(uint64_t start, uint64_t end) NEEDS(as.lock);
void aside_sheet_end(struct aside_sheet *s);

/*
 * Map zeros for a place in range r, with its advice and policy. They can be read and written; the
 * caller gives them the range's protection. Returns the address, or -ENOMEM.
 */
long aside_zeros(size_t len, const struct as_range *r) NEEDS(as.lock);
/* Is nothing mapped in some part of [start, end)? MS_ASYNC does nothing else than to say so. */
bool aside_has_gap(uint64_t start, uint64_t end);
/*
 * Move what was made aside over `to`. Returns 0; or -errno, and what was there still stands: -EPERM
 * where that is sealed. Where the kernel took it away and then had no memory, this tries until it
 * succeeds: what was made aside is all there is of the contents then.
 */
long aside_move(uint64_t from, size_t len, uint64_t to);

#endif
