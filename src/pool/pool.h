/* SPDX-License-Identifier: MIT */
/*
 * pool.h - which frames are used, and which one a user gets.
 *
 * A frame is a number: the offset, in pages, into a sparse file. Numbers are cheap and memory is
 * not, because a frame costs memory only from when it is written until its memory is given back.
 * The pool therefore spends numbers to gain contiguity: adjacent pages on adjacent frames need one
 * mapping, others need one mapping each. Users reserve whole extents of numbers
 * (pool_extent_reserve()) and ask for frames in them by number.
 *
 * From large to small: pool, zone (one NUMA node), extent (64 pageblocks), pageblock (512 frames).
 * Extents and pageblocks hold memory only while they are used or, for an extent, reserved.
 *
 * The pool knows numbers only. For each frame it keeps one 32-bit word of its user, which it never
 * reads. It takes no lock: the caller lets one thread at a time into a pool, readers included.
 */
#ifndef KSM_POOL_H
#define KSM_POOL_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include "pool/zone.h"

/*
 * Zone n owns frames [n * zone_frames, (n + 1) * zone_frames). Invariant: nr_used is the sum over
 * the zones.
 */
struct pool {
	int nr_zones;
	uint32_t zone_frames; /* of each zone */
	uint32_t nr_used;
	struct zone *zone;
};

/* Returns 0, -EINVAL (no frames, or more than 2^32 - 2 numbers) or -ENOMEM. */
int pool_init(struct pool *p, int nr_zones, uint32_t zone_frames);
/* Frames that are used are forgotten. A pool whose pool_init() failed is accepted. */
void pool_deinit(struct pool *p);

static inline uint64_t pool_nr_frames(const struct pool *p)
{
	return (uint64_t)p->nr_zones * p->zone_frames;
}

/* Node of a frame of the pool. */
static inline int pool_nid(const struct pool *p, uint32_t frame)
{
	return (int)(frame / p->zone_frames);
}

/* False for any number that is no frame of the pool, POOL_NONE included. */
static inline bool pool_is_used(const struct pool *p, uint32_t frame)
{
	return frame < pool_nr_frames(p) &&
	       zone_is_used(&p->zone[frame / p->zone_frames], frame % p->zone_frames);
}

/* Whether `frame` is one of zone `nid` and free. Any number is accepted. */
static inline bool pool_is_free(const struct pool *p, int nid, uint32_t frame)
{
	return frame < pool_nr_frames(p) && pool_nid(p, frame) == nid && !pool_is_used(p, frame);
}

/* The user's word of a frame; POOL_NONE when none was set, or the frame is free or no frame. */
static inline uint32_t pool_word(const struct pool *p, uint32_t frame)
{
	uint32_t f = frame % p->zone_frames;

	return pool_is_used(p, frame) ? zone_pageblock(&p->zone[frame / p->zone_frames], f)
						->word[f % PAGEBLOCK_FRAMES] :
					POOL_NONE;
}

/* The frame must be used. */
static inline void pool_set_word(struct pool *p, uint32_t frame, uint32_t word)
{
	uint32_t f = frame % p->zone_frames;

	assert(pool_is_used(p, frame));
	zone_pageblock(&p->zone[frame / p->zone_frames], f)->word[f % PAGEBLOCK_FRAMES] = word;
}

/*
 * Take a frame of zone `nid`: `best` if that is one of the zone and free, else `second` likewise,
 * else any. Both may be any number. POOL_NONE when the zone is full or memory is
 * short.
 */
uint32_t pool_alloc(struct pool *p, int nid, uint32_t best, uint32_t second);
/* Give back a frame, which must be used. The caller knows that nobody can reach it any more. */
void pool_free(struct pool *p, uint32_t frame);
/*
 * Reserve an extent of zone `nid` none of whose frames is used: EXTENT_FRAMES numbers, fewer at the
 * end of the zone. Others get frames in it only when the rest of the zone is full. Returns its
 * first frame, or POOL_NONE when there is none left or memory is short.
 */
uint32_t pool_extent_reserve(struct pool *p, int nid);
/* The reverse, by the first frame. Frames in it may still be used, and stay so. */
void pool_extent_release(struct pool *p, uint32_t first);
/* Memory that the pool holds. */
uint64_t pool_bytes(const struct pool *p);
/* Count everything again. 0, or -1 when an invariant does not hold. */
int pool_check(const struct pool *p);

#endif
