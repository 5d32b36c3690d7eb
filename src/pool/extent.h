/* SPDX-License-Identifier: MIT */
/*
 * extent.h - 64 pageblocks with consecutive numbers, and whether somebody has reserved them.
 *
 * Numbers are cheap and adjacent numbers are worth having, so a user of the pool reserves a whole
 * extent (32,768 numbers) and asks for frames in it by number. Single frames for everybody else
 * come from extents that nobody has reserved. An extent holds memory for pageblocks in use only.
 */
#ifndef KSM_EXTENT_H
#define KSM_EXTENT_H

#include <stdbool.h>
#include <stdint.h>

#include "pool/pageblock.h"

#define EXTENT_PAGEBLOCKS 64u
#define EXTENT_FRAMES (PAGEBLOCK_FRAMES * EXTENT_PAGEBLOCKS) /* 128 MiB */

/*
 * Frames are numbered from 0 within the extent. Invariants: nr_used is the sum over the pageblocks,
 * each of which has a used frame; no pageblock below `hint` has a free one.
 */
struct extent {
	uint32_t nr_used;
	uint32_t hint;
	bool reserved;
	struct pageblock *pb[EXTENT_PAGEBLOCKS]; /* NULL: all frames are free */
};

/* An extent with all frames free and not reserved, or NULL (ENOMEM). */
struct extent *extent_new(void);
/* Frees the pageblocks, too. NULL is accepted. */
void extent_free(struct extent *x);

/* The pageblock of frame `f`, or NULL while all its frames are free. */
static inline struct pageblock *extent_pageblock(const struct extent *x, uint32_t f)
{
	return x->pb[f / PAGEBLOCK_FRAMES];
}

/* Take frame `f`, which must be free. Returns 0 or -ENOMEM. Adds to *bytes what it allocates. */
int extent_take(struct extent *x, int nid, uint32_t f, uint64_t *bytes);
/* Give frame `f` back, which must be used. Takes from *bytes what it frees. */
void extent_give(struct extent *x, uint32_t f, uint64_t *bytes);
/* Lowest free frame; the extent must have one. */
uint32_t extent_first_free(struct extent *x);
/* Count again. 0, or -1 when an invariant does not hold. */
int extent_check(const struct extent *x, int nid);

#endif
