/* SPDX-License-Identifier: MIT */
/*
 * extent.h - 64 pageblocks with consecutive numbers: which exist, and which may not come to exist.
 *
 * A zone's span is much larger than what is used of it, so what describes it exists only where
 * something is to be said. An extent exists while one of its pageblocks does, or is isolated,
 * offline or part of the reserve. Extents are also how users of windows and of single frames keep
 * out of each other's way: each begins extents of its own as long as there are any (zone.c).
 */
#ifndef KSM_EXTENT_H
#define KSM_EXTENT_H

#include <stdbool.h>
#include <stdint.h>

#include "pool/pageblock.h"

#define EXTENT_PAGEBLOCKS 64u
#define EXTENT_FRAMES (PAGEBLOCK_FRAMES * EXTENT_PAGEBLOCKS) /* 128 MiB */

/*
 * The zone's lock covers it. Bit b of each mask stands for pageblock b. Invariants: `present` says
 * which pb[] are not NULL; one that is offline is not present; the bit of one that is present and
 * isolated equals pageblock.isolated; one that is present is of POOL_RESERVE if and only if its bit
 * is in `reserve`.
 */
struct extent {
	uint64_t present;
	uint64_t isolated; /* may be absent: then it must not come to exist */
	uint64_t offline;  /* taken out of use */
	uint64_t reserve;  /* of the contiguous reserve, whenever it exists */
	struct pageblock *pb[EXTENT_PAGEBLOCKS];
};

/* An extent that says nothing, or NULL (ENOMEM). */
struct extent *extent_new(void);
/* Frees the pageblocks, too. NULL is accepted. */
void extent_free(struct extent *x);

/* Does anything keep it? */
static inline bool extent_is_needed(const struct extent *x)
{
	return x->present || x->isolated || x->offline || x->reserve;
}

/* Pageblocks (of the first `nr`, 1..64) that can come to exist. */
static inline uint64_t extent_absent(const struct extent *x, uint32_t nr)
{
	return ~(x->present | x->isolated | x->offline) & (~0ull >> (BITS_PER_WORD - nr));
}

#endif
