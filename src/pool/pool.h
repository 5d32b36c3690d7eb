/* SPDX-License-Identifier: MIT */
/*
 * pool.h - which stable frames are in use, and which one to take next.
 *
 * Frame numbers are offsets into a sparse arena, so numbers are cheap and memory is not: a frame
 * costs memory from when it is written until it is freed. The pool therefore spends numbers to
 * gain contiguity: adjacent addresses that stand on adjacent frames need one mapping, otherwise
 * one mapping each. It hands out whole extents (64 pageblocks, 128 MiB of numbers) for a stretch
 * of address space to be laid out in linearly, and within them any frame asked for by number.
 *
 * Zone n owns frames [n * zone_frames, (n + 1) * zone_frames). Extents and pageblocks exist only
 * while something in them is in use (or, for an extent, while someone owns it as a window).
 * The pool knows nothing of clients or contents, except that it remembers for each frame one
 * 32-bit word for its user (the stable node). The engine lock covers everything here.
 */
#ifndef KSM_POOL_H
#define KSM_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define POOL_PB_FRAMES 512u /* 2 MiB */
#define POOL_EXT_PBS 64u
#define POOL_EXT_FRAMES (POOL_PB_FRAMES * POOL_EXT_PBS) /* 128 MiB */
#define POOL_NONE 0xffffffffu

struct pageblock {
	uint64_t used[POOL_PB_FRAMES / 64]; /* bit per frame */
	uint32_t nr_free;                   /* POOL_PB_FRAMES - bits set in used */
	int nid;
	uint32_t node[POOL_PB_FRAMES]; /* stable node of each used frame */
};

struct pool_extent {
	uint32_t nr_used; /* frames in use; sum over its pageblocks */
	uint32_t hint;    /* no pageblock below this one has a free frame */
	bool owned;       /* a window: not used for other addresses while there is any choice */
	struct pageblock *pb[POOL_EXT_PBS];
};

struct pool_zone {
	struct pool_extent **ext; /* nr_ext of them, NULL when not in use */
	uint32_t fill;            /* extent that scattered frames come from */
	uint32_t next;            /* where the search for a free extent goes on */
	uint32_t nr_ext;          /* extents in use */
};

struct pool {
	int nr_zones;
	uint32_t zone_frames, nr_ext; /* per zone */
	uint32_t max_frames;          /* 0: no limit */
	uint32_t nr_used;
	uint64_t bytes;
	struct pool_zone *zone;
};

/* 0, -EINVAL (no frames, or numbers would not fit) or -ENOMEM. */
int pool_init(struct pool *p, int nr_zones, uint32_t zone_frames, uint32_t max_frames);
void pool_deinit(struct pool *p); /* frames still in use are forgotten */
/*
 * Take a frame of zone nid: `want` if that is one of the zone and free, else `window` (also a
 * frame number, or POOL_NONE), else any. POOL_NONE when max_frames are in use, the zone is full,
 * or for want of memory.
 */
uint32_t pool_alloc(struct pool *p, int nid, uint32_t want, uint32_t window);
void pool_free(struct pool *p, uint32_t frame);
bool pool_is_used(const struct pool *p, uint32_t frame);
uint32_t pool_node(const struct pool *p, uint32_t frame); /* POOL_NONE if the frame is free */
void pool_set_node(struct pool *p, uint32_t frame, uint32_t node);
int pool_nid(const struct pool *p, uint32_t frame);
/* An unused extent's first frame, now owned; POOL_NONE if there is none left. */
uint32_t pool_window_get(struct pool *p, int nid);
void pool_window_put(struct pool *p, uint32_t first_frame);
/* Recount. 0 or -1. */
int pool_check(const struct pool *p);

static inline uint64_t pool_nr_frames(const struct pool *p)
{
	return (uint64_t)p->nr_zones * p->zone_frames;
}

#endif
