/* SPDX-License-Identifier: MIT */
/*
 * zone.h - the frames of one NUMA node: the pageblocks that exist, listed by their free runs.
 *
 * Here are the moves that everything else is made of: a pageblock comes to exist or goes, changes
 * its type, is isolated; a frame is taken or given back. Each keeps the counts, so that under the
 * lock they are exact:
 *
 *	free + cached + isolated + used + retired + guard + window + absent = span
 *
 * Frames and pageblocks are numbered from 0 within the zone.
 *
 * Locks: those of the caches in order of their index, then the zone's. zone_lock_all() takes all.
 */
#ifndef KSM_ZONE_H
#define KSM_ZONE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/guard.h"
#include "pool/extent.h"

#define POOL_LIST_ISOLATED POOL_TYPES /* beside a list for each type */
#define POOL_LISTS (POOL_TYPES + 1)
#define POOL_CACHE_FRAMES 32u
#define POOL_CACHE_BATCH 16u

/* Free frames of one thread: it takes and gives single frames without the zone's lock. */
struct pool_cache {
	struct lock lock; /* hardly ever waited for: isolating and counting take it, too */
	uint32_t nr;
	uint32_t frame[POOL_CACHE_FRAMES]; /* POOL_CACHED; the last goes out first */
};

/*
 * Invariants, under the lock: nr_present is the sum of pb->nr over the pageblocks that exist;
 * n[t][s] the sum of their n[s] by type, where free frames of isolated ones count as POOL_ISOLATED.
 * A pageblock is on the list of order o (of its type, or of isolated ones) if and only if it has a
 * free run of exactly that order; of a pair, the first pageblock is on the list of POOL_MAX_ORDER.
 */
struct zone {
	int nid;
	uint32_t nr_frames; /* the span */
	uint32_t nr_blocks; /* the last may be short */
	bool keep_empty;    /* pageblocks stay when they are empty, until zone_trim() */
	bool guard;         /* a frame is kept empty beside each run: see pool.h */
	struct lock lock;   /* covers all below */
	struct extent **ext;
	uint32_t max_ext, nr_ext;
	struct pageblock *list[POOL_LISTS][POOL_ORDERS];
	uint64_t nr_present;
	uint64_t n[POOL_TYPES][POOL_STATES];
	uint64_t nr_claimed; /* of the used frames: see claim.h */
	uint32_t fill;       /* extent in which pageblocks for single frames come to exist */
	uint32_t next;       /* where the search for an extent for windows goes on */
	uint32_t scarce;     /* pageblock in which a window's frame was last had by another */
	uint64_t bytes;      /* memory held, the zone itself included */
	uint32_t nr_caches;
	struct pool_cache *cache; /* each has its own lock */
};

/* nr_frames > 0. Returns 0 or -ENOMEM. */
int zone_init(struct zone *z, int nid, uint32_t nr_frames, uint32_t nr_caches, bool keep_empty);
/* Frames that are used are forgotten. A zone of zeros is accepted. */
void zone_deinit(struct zone *z);

void zone_lock_all(struct zone *z) TAKES(z->lock);
void zone_unlock_all(struct zone *z) GIVES(z->lock);

static inline struct extent *zone_extent(const struct zone *z, uint32_t block)
{
	return z->ext[block / EXTENT_PAGEBLOCKS];
}

/* Pageblock number `block`, or NULL while it is absent. The caller has a frame in it, or a lock. */
static inline struct pageblock *zone_pageblock(const struct zone *z, uint32_t block)
{
	const struct extent *x = zone_extent(z, block);

	return x ? x->pb[block % EXTENT_PAGEBLOCKS] : NULL;
}

static inline uint32_t zone_block_frames(const struct zone *z, uint32_t block)
{
	uint32_t left = z->nr_frames - block * PAGEBLOCK_FRAMES;

	return left < PAGEBLOCK_FRAMES ? left : PAGEBLOCK_FRAMES;
}

/* Pageblocks that extent i has room for: 64, fewer at the end of the zone. */
static inline uint32_t zone_extent_blocks(const struct zone *z, uint32_t i)
{
	uint32_t left = z->nr_blocks - i * EXTENT_PAGEBLOCKS;

	return left < EXTENT_PAGEBLOCKS ? left : EXTENT_PAGEBLOCKS;
}

/* The extent of a pageblock, made if need be, or NULL (ENOMEM). */
struct extent *zone_extent_get(struct zone *z, uint32_t block) NEEDS(z->lock);
/* Frees the extent of a pageblock if nothing keeps it. */
void zone_extent_drop(struct zone *z, uint32_t block) NEEDS(z->lock);
/* May an absent pageblock come to exist? False also for one that exists. */
bool zone_can_grow(const struct zone *z, uint32_t block) NEEDS(z->lock);
/*
 * An absent pageblock comes to exist, all frames free; isolated if its extent says so, and of
 * POOL_RESERVE likewise. NULL for want of memory. It must not be offline.
 */
struct pageblock *zone_grow(struct zone *z, uint32_t block, enum pool_type type) NEEDS(z->lock);
/* A pageblock all of whose frames are free ceases to exist. */
void zone_shrink(struct zone *z, struct pageblock *pb) NEEDS(z->lock);
/* It may exist again, if it was offline; one of the reserve does at once. */
void zone_online(struct zone *z, uint32_t block) NEEDS(z->lock);
/* All empty pageblocks cease to exist, but for isolated ones and those of the reserve. */
void zone_trim(struct zone *z) NEEDS(z->lock);

/* Take the free run at `off`, aligned to its order (0..9), into another state. */
void zone_cut(struct zone *z, struct pageblock *pb, uint32_t off, unsigned int order,
	      enum pool_state to) NEEDS(z->lock);
/* Single frames that are not free change state, or become free. zone_settle() must follow. */
void zone_set(struct zone *z, struct pageblock *pb, uint32_t off, uint32_t nr, enum pool_state to)
	NEEDS(z->lock);
/* List it as its free runs are now. True: the pageblock was empty, and has ceased to exist. */
bool zone_settle(struct zone *z, struct pageblock *pb) NEEDS(z->lock);
/* Single frames whose contents cannot move, or can again. They are used. */
void zone_set_fixed(struct pageblock *pb, uint32_t off, uint32_t nr, bool fixed);

void zone_set_type(struct zone *z, struct pageblock *pb, enum pool_type type) NEEDS(z->lock);
/* The caller has the locks of all caches, too: zone_lock_all(). The extent's bit follows. */
void zone_set_isolated(struct zone *z, struct pageblock *pb, bool isolated) NEEDS(z->lock);

/*
 * Frames come back, as what their pageblock makes of them: free, a window's, held for a folio. The
 * guard frame beside them comes, too. True: this was the last frame of a large folio; once its
 * memory is given back, zone_fold() makes the frames free.
 */
bool zone_give(struct zone *z, struct pageblock *pb, uint32_t off, uint32_t nr) NEEDS(z->lock);
/* It is one folio from now on: what nobody has of it is held at once. Returns how many frames. */
uint32_t zone_hold(struct zone *z, struct pageblock *pb) NEEDS(z->lock);
void zone_fold(struct zone *z, struct pageblock *pb) NEEDS(z->lock);

/* Count again. 0, or -1 when an invariant does not hold. */
int zone_check(struct zone *z);

#endif
