/* SPDX-License-Identifier: MIT */
/*
 * zone.h - the frames of one NUMA node, in extents.
 *
 * A zone decides which extent a frame comes from when its user asks for no number: scattered frames
 * fill one extent after the other, so few pageblocks are begun and most become empty again. It
 * hands unused extents out in turn, so an extent that was just released rests for a while.
 */
#ifndef KSM_ZONE_H
#define KSM_ZONE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pool/extent.h"

/*
 * Frames are numbered from 0 within the zone. Invariants: nr_ext counts the entries of ext[] that
 * are not NULL; an extent exists while a frame in it is used or it is reserved.
 */
struct zone {
	int nid;
	uint32_t nr_frames;
	uint32_t max_ext;    /* entries of ext[]; the last extent may have fewer frames */
	uint32_t nr_ext;     /* extents that exist */
	struct extent **ext; /* NULL: all frames are free */
	uint32_t fill;       /* extent that scattered frames come from, or POOL_NONE */
	uint32_t next;       /* where the search for an extent to reserve goes on */
	uint64_t bytes;      /* memory held, the zone itself included */
};

/* Returns 0 or -ENOMEM. nr_frames > 0. */
int zone_init(struct zone *z, int nid, uint32_t nr_frames);
/* Frames that are used are forgotten. A zone of zeros is accepted. */
void zone_deinit(struct zone *z);

/* The pageblock of frame `f`, or NULL while all its frames are free. */
static inline struct pageblock *zone_pageblock(const struct zone *z, uint32_t f)
{
	const struct extent *x = z->ext[f / EXTENT_FRAMES];

	return x ? extent_pageblock(x, f % EXTENT_FRAMES) : NULL;
}

static inline bool zone_is_used(const struct zone *z, uint32_t f)
{
	const struct pageblock *pb = zone_pageblock(z, f);

	return pb && pageblock_is_used(pb, f % PAGEBLOCK_FRAMES);
}

/*
 * A free frame: of the extent being filled, else of one that is not reserved, else of one that does
 * not exist yet, and only then of a reserved one. POOL_NONE when the zone is full. Takes nothing.
 */
uint32_t zone_any_free(struct zone *z);
/* Take frame `f`, which must be free. Returns 0 or -ENOMEM. */
int zone_take(struct zone *z, uint32_t f);
/* Give frame `f` back, which must be used. */
void zone_give(struct zone *z, uint32_t f);
/* Reserve an extent none of whose frames is used. Its first frame; POOL_NONE: none, or ENOMEM. */
uint32_t zone_extent_reserve(struct zone *z);
/* The reverse, by the first frame. Frames in it may still be used. */
void zone_extent_release(struct zone *z, uint32_t first);
/* Count again and add the used frames to *used. 0, or -1 when an invariant does not hold. */
int zone_check(const struct zone *z, uint64_t *used);

#endif
