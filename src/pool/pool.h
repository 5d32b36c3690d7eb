/* SPDX-License-Identifier: MIT */
/*
 * pool.h - the allocator of frames: zones of pageblocks, as the kernel's page allocator in small.
 *
 * A frame is a number: the offset, in pages, into a sparse file. A frame costs memory from when it
 * is written until its memory is given back (punched). Numbers are worth having side by side,
 * because adjacent pages on adjacent frames need one mapping and others one each; and they are
 * scarce, because a zone's span is bounded. So frames are handed out from runs, as near to what the
 * user wishes as can be, and whole pageblocks come to exist and go.
 *
 * From large to small: pool, zone (one NUMA node), extent (64 pageblocks), pageblock (512 frames).
 * Rooms: pageblock (its free runs), zone (moves, lists, counts), choice (which frame), cache (free
 * frames of a thread), pool (this), range (isolation, contiguous ranges, offline), claim (ranges
 * that their owner empties), index (scores of fragmentation), contig (runs made on demand).
 *
 * The pool knows numbers only. For each used frame it keeps one 32-bit word of its user, which it
 * never reads. What touches memory, contents or time comes in through struct pool_ops.
 *
 * Threads. All functions but those marked [owner] may be called from any thread, with none of the
 * pool's locks held. [owner] functions look at pageblocks without a lock: no other function may run
 * at the same time, unless the frame is the caller's. In the service the engine lock sees to that.
 */
#ifndef KSM_POOL_H
#define KSM_POOL_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include "pool/zone.h"

#define POOL_NO_CACHE 0xffffffffu

/* Moments at which a test may step in: no lock is held then. */
enum pool_moment {
	POOL_AT_FREE,     /* a frame is about to be given back */
	POOL_AT_ISOLATED, /* a range was just isolated */
	POOL_AT_MOVED,    /* contents have moved, and the old frame is about to be given back */
	POOL_AT_GIVEN,    /* it was given back */
	POOL_AT_EMPTIED   /* a range is empty, and about to be taken */
};

/* What stood in the way of a range. */
struct pool_culprit {
	uint32_t frame; /* POOL_NONE: nothing */
	int32_t pid;    /* of the process that keeps it, or 0 */
	const char *why;
};

/* All are called with no lock of the pool held, and may be NULL. */
struct pool_ops {
	/* Give the memory of nr contiguous frames back. Must not fail. */
	void (*punch)(void *ctx, uint32_t first, uint32_t nr);
	/*
	 * Move the contents of the used frames [from, from + nr), and all that refers to them, to
	 * the frames from `to` on. Returns 0; -ENOENT when the owner gave them back meanwhile;
	 * -EAGAIN when it may do later; or another negative errno: never. It fills in pid and why
	 * of *who on failure. The pool gives the old frames back on success, the new ones else.
	 */
	int (*move)(void *ctx, uint32_t from, uint32_t nr, uint32_t to, struct pool_culprit *who);
	/* Wait a little until frames may have become free. Without it nothing is waited for. */
	void (*pause)(void *ctx);
	uint64_t (*now_ms)(void *ctx);
	/* For tests. */
	void (*moment)(void *ctx, enum pool_moment at, uint32_t frame);
};

struct pool_config {
	const struct pool_ops *ops; /* NULL: none */
	void *ctx;
	int nr_zones;
	uint32_t zone_frames; /* span of each zone */
	uint32_t max_frames;  /* most frames used at a time; 0: no limit */
	uint32_t nr_caches;   /* threads that have one */
	bool keep_empty;      /* pageblocks stay when they are empty */
	/*
	 * Keep a frame empty beside each run, for debugging: behind single frames and runs below
	 * PAGEBLOCK_ORDER, and at the end of each window. What maps a frame too many finds zeros.
	 * Caches are not used, and a wish is refused where no guard fits. range_alloc() sets none.
	 */
	bool guard;
};

/*
 * Zone n owns frames [n * zone_frames, (n + 1) * zone_frames). Invariants: nr_used is the sum of
 * used and retired frames over the zones but for claimed ones, which have no memory, and at most
 * max_frames if that is not 0; nr_held is that of held ones, which have memory, too.
 */
struct pool {
	struct pool_ops ops;
	void *ctx;
	int nr_zones;
	uint32_t zone_frames;
	uint32_t max_frames;
	bool guard;       /* also in each zone */
	uint32_t nr_used; /* atomic */
	uint32_t nr_held; /* atomic; given back, or never had, but part of a large folio */
	struct zone *zone;
};

/* Exact at one moment. Their sum is the span. `free` has no frames of isolated pageblocks. */
struct pool_counts {
	uint64_t free, cached, isolated, used, retired, guard, window, absent;
	uint64_t span;
	uint64_t free_of[POOL_TYPES]; /* of `free`; that of POOL_RESERVE is in both */
	uint64_t used_of[POOL_TYPES], cached_of[POOL_TYPES], isolated_of[POOL_TYPES];
	uint64_t retired_of[POOL_TYPES], guard_of[POOL_TYPES];
	uint32_t pageblocks; /* that exist */
	uint32_t offline;    /* pageblocks taken out of use; their frames are absent */
	uint64_t claimed;    /* of `used` */
	/* By type of pageblock: the sum of the six above, and of `window` for POOL_MOVABLE. */
	uint64_t frames_of[POOL_TYPES];
};

/* Returns 0, -EINVAL (no frames, or more than 2^32 - 2 numbers) or -ENOMEM. */
int pool_init(struct pool *p, const struct pool_config *cfg);
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

/* [owner] The pageblock of a frame of the pool; NULL: it is absent. */
static inline struct pageblock *pool_pageblock(const struct pool *p, uint32_t frame)
{
	return zone_pageblock(&p->zone[frame / p->zone_frames],
			      frame % p->zone_frames / PAGEBLOCK_FRAMES);
}

/* [owner] Used or retired? False for any number that is no frame of the pool, POOL_NONE included.*/
static inline bool pool_is_used(const struct pool *p, uint32_t frame)
{
	const struct pageblock *pb;

	if (frame >= pool_nr_frames(p))
		return false;
	pb = pool_pageblock(p, frame);
	return pb && pageblock_is_used(pb, frame % p->zone_frames % PAGEBLOCK_FRAMES);
}

/* [owner] First used or retired frame of [f, end), which lies in one zone; POOL_NONE: none. */
uint32_t pool_next_used(const struct pool *p, uint32_t f, uint32_t end);

/*
 * [owner] First frame from f on whose pageblock exists; POOL_NONE: none. Costs nothing to speak of
 * for what is absent: a look for each extent, and for each pageblock of those that exist.
 */
uint32_t pool_next_present(const struct pool *p, uint32_t f);

/* [owner] The user's word of a frame; POOL_NONE when none was set, or it is free or no frame. */
static inline uint32_t pool_word(const struct pool *p, uint32_t frame)
{
	return pool_is_used(p, frame) ?
		       pool_pageblock(p, frame)->word[frame % p->zone_frames % PAGEBLOCK_FRAMES] :
		       POOL_NONE;
}

/* [owner] The frame must be used. */
static inline void pool_set_word(struct pool *p, uint32_t frame, uint32_t word)
{
	assert(pool_is_used(p, frame));
	pool_pageblock(p, frame)->word[frame % p->zone_frames % PAGEBLOCK_FRAMES] = word;
}

/* [owner] Is it one of zone `nid` that pool_alloc() can hand out on a wish? Any number will do. */
bool pool_is_free(const struct pool *p, int nid, uint32_t frame);
/* [owner] Is it a frame of the pool whose pageblock is absent? */
bool pool_is_absent(const struct pool *p, uint32_t frame);

/*
 * Take a frame of zone `nid`: `best` if that is one of the zone and free, else `second` likewise,
 * else any, from the caller's cache if there is one. Both wishes may be any number. POOL_NONE when
 * max_frames are used, the zone is full, or memory is short.
 */
uint32_t pool_alloc(struct pool *p, uint32_t cache, int nid, uint32_t best, uint32_t second);
/*
 * Take 2^order frames, aligned, the first of which becomes *frame. Those of POOL_UNMOVABLE cannot
 * move. 0, -EINVAL (there is no such zone or type, or the order is beyond POOL_MAX_ORDER), or
 * -ENOMEM where pool_alloc() has none. On failure *frame is POOL_NONE, and nothing has changed.
 */
int pool_alloc_run(struct pool *p, int nid, enum pool_type type, unsigned int order,
		   uint32_t *frame);
/*
 * Give frames back, all of them used or retired, and of one zone. The caller knows that nobody can
 * reach them any more. Their memory is punched first if they have any; one frame then goes into the
 * cache, if there is one.
 */
void pool_free(struct pool *p, uint32_t cache, uint32_t frame, uint32_t nr, bool has_memory);
/* Used frames retire: nobody uses them, and their contents must stay. And the reverse. */
void pool_retire(struct pool *p, uint32_t frame);
void pool_revive(struct pool *p, uint32_t frame);
/* A cache's frames go back to their zones: its thread rests. */
void pool_drain(struct pool *p, uint32_t cache);

/*
 * Reserve a pageblock of zone `nid` as a window; see choice_window() for `near` (a frame, or
 * POOL_NONE) and `at`. Returns its first frame; it may be short at the end of the zone. POOL_NONE
 * when there is none left or memory is short.
 */
uint32_t pool_window_reserve(struct pool *p, int nid, uint32_t near, uint32_t at);
/* The reverse, by the first frame. Frames in it may still be used, and stay so. */
void pool_window_release(struct pool *p, uint32_t first);
/*
 * Make nr pageblocks from the frame `first` on, all absent or empty, a contiguous reserve. Movable
 * frames use it meanwhile. Returns 0, -EINVAL, -EBUSY (the culprit's pageblock is in use), -ENOMEM.
 */
int pool_reserve(struct pool *p, uint32_t first, uint32_t nr, struct pool_culprit *who);
/*
 * The memory of this pageblock is one folio. From now on it is given back whole: what is free of
 * it, and frames of it that come back, are held, and retired in the counts, until the last has
 * come. 0, or -EINVAL: it is large already or the short one at a zone's end, or nobody has any.
 */
int pool_set_large(struct pool *p, uint32_t first);

void pool_counts(struct pool *p, int nid, struct pool_counts *out);
/* Memory that the pool holds. */
uint64_t pool_bytes(struct pool *p);
/* Count everything again. 0, or -1 when an invariant does not hold. */
int pool_check(struct pool *p);

/* For the rooms above: frames come back as in pool_free(), and go on counting as used. */
void pool_give(struct pool *p, struct zone *z, uint32_t f, uint32_t nr, bool has_memory);
/* Count nr more frames as used. False: that is beyond the limit. */
bool pool_charge(struct pool *p, uint32_t nr);
void pool_uncharge(struct pool *p, uint32_t nr);
/* A test may step in now. `f` is numbered within the zone. */
void pool_moment(const struct pool *p, const struct zone *z, enum pool_moment at, uint32_t f);

#endif
