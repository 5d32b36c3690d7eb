/* SPDX-License-Identifier: MIT */
/*
 * as_ranges.h - the table of ranges: what is known of memory that was mapped through the library
 * or offered by madvise.
 */
#ifndef KSM_AS_RANGES_H
#define KSM_AS_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/as.h"

/* What is known of a range of memory mapped through the library or offered by madvise. */
enum {
	AS_WANTED = 1 << 0,    /* offered for merging */
	AS_ADVISED = 1 << 1,   /* by an explicit MADV_MERGEABLE, not by a policy */
	AS_UNSHARING = 1 << 2, /* being withdrawn: nothing may be merged meanwhile */
};
struct as_range {
	uint64_t start, end; /* page aligned, start < end; sorted, disjoint */
	uint8_t prot;        /* PROT_* */
	uint8_t flags;       /* AS_* */
	uint16_t left_out;   /* bit set of 1 << enum ksm_left_out */
};

/* May pages of this range be merged? */
static inline bool as_offered(const struct as_range *r)
{
	return (r->flags & (AS_WANTED | AS_UNSHARING)) == AS_WANTED && !r->left_out;
}

/* Index of the first range with end > addr (== nr when none). Lock held. */
size_t as_find(uint64_t addr) NEEDS(as.lock);
/* Replace what is known of [start, end). Returns 0 or -ENOMEM (nothing changed). Lock held. */
int as_set(uint64_t start, uint64_t end, uint8_t prot, uint8_t flags, uint16_t left_out)
	NEEDS(as.lock);
void as_clear(uint64_t start, uint64_t end) NEEDS(as.lock);
/* The same for what is not known of it yet. Returns 0 or -ENOMEM (a part was done). Lock held. */
int as_fill(uint64_t start, uint64_t end, uint8_t prot, uint8_t flags, uint16_t left_out)
	NEEDS(as.lock);
/* Room for so many more entries, so that edits that add no more cannot fail. 0 or -ENOMEM. */
int as_reserve(size_t more) NEEDS(as.lock);
/* Apply fn to each known part of [start, end), then coalesce. Returns 0 or -ENOMEM. Lock held. */
int as_edit(uint64_t start, uint64_t end, void (*fn)(struct as_range *r, long arg), long arg)
	NEEDS(as.lock);
/* Any part of [start, end) known? All of it? Lock held. */
bool as_knows(uint64_t start, uint64_t end) NEEDS(as.lock);
bool as_covers(uint64_t start, uint64_t end) NEEDS(as.lock);

#endif
