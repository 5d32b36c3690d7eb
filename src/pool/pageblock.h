/* SPDX-License-Identifier: MIT */
/*
 * pageblock.h - 512 frames with consecutive numbers: which of them are used, and by whom.
 *
 * 512 frames of 4 KiB are 2 MiB, the size of a huge page on x86-64. A pageblock is therefore the
 * unit in which memory can be handed out or given back whole, and what is known of a stretch of
 * frames as a whole stands here. A pageblock exists only while a frame in it is used.
 */
#ifndef KSM_PAGEBLOCK_H
#define KSM_PAGEBLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bits.h"

#define PAGEBLOCK_FRAMES 512u /* 2 MiB */
#define POOL_NONE 0xffffffffu /* no frame, no extent; also a frame's word until its user sets it */

/* Invariant: nr_free + number of bits set in `used` = PAGEBLOCK_FRAMES. */
struct pageblock {
	uint64_t used[PAGEBLOCK_FRAMES / BITS_PER_WORD]; /* bit per frame */
	uint32_t nr_free;
	int nid;
	uint32_t word[PAGEBLOCK_FRAMES]; /* of the user of each used frame; the pool reads none */
};

/* A pageblock of node `nid` with all frames free, or NULL (ENOMEM). free() frees it. */
struct pageblock *pageblock_new(int nid);

static inline bool pageblock_is_used(const struct pageblock *pb, uint32_t off)
{
	return bits_test(pb->used, off);
}

/* Frame `off` (0..511) must be free. */
static inline void pageblock_take(struct pageblock *pb, uint32_t off)
{
	bits_set(pb->used, off);
	pb->word[off] = POOL_NONE;
	pb->nr_free--;
}

/* Frame `off` must be used. True when the pageblock is empty now. */
static inline bool pageblock_give(struct pageblock *pb, uint32_t off)
{
	bits_clear(pb->used, off);
	return ++pb->nr_free == PAGEBLOCK_FRAMES;
}

/* Lowest free frame; PAGEBLOCK_FRAMES when there is none. */
static inline uint32_t pageblock_first_free(const struct pageblock *pb)
{
	return bits_first_clear(pb->used, PAGEBLOCK_FRAMES);
}

/* Used frames, counted again; POOL_NONE when the count is not what the pageblock says. */
uint32_t pageblock_recount(const struct pageblock *pb, int nid);

#endif
