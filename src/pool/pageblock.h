/* SPDX-License-Identifier: MIT */
/*
 * pageblock.h - 512 frames with consecutive numbers: what each is, and which free runs they form.
 *
 * 512 frames of 4 KiB are 2 MiB, the size of a huge page on x86-64. A pageblock is therefore the
 * unit in which memory is handed out or given back whole, and in which frames are isolated.
 *
 * A free run is 2^order free frames whose number is a multiple of 2^order. A pageblock keeps its
 * own free runs as a bit per possible run. It joins a run with its buddy as long as both are free,
 * so no two buddies of one order are ever free side by side. Zones list pageblocks, not frames: on
 * which list a free run is follows from what its pageblock is at that moment. A frame therefore
 * cannot be on the list of another type than its pageblock's, whoever frees it and however late.
 */
#ifndef KSM_PAGEBLOCK_H
#define KSM_PAGEBLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bits.h"

#define PAGEBLOCK_ORDER 9u
#define PAGEBLOCK_FRAMES (1u << PAGEBLOCK_ORDER) /* 2 MiB */
#define POOL_MAX_ORDER 10u                       /* a pair of pageblocks */
#define POOL_ORDERS (POOL_MAX_ORDER + 1u)
#define POOL_NONE 0xffffffffu /* no frame, no extent; also a frame's word until its user sets it */

/* What a frame is. Its byte in pageblock.state holds this and the flags below. */
enum pool_state {
	POOL_ABSENT,   /* its pageblock does not exist, or the zone ends before it */
	POOL_FREE,     /* in a free run */
	POOL_CACHED,   /* free, and in the cache of one thread */
	POOL_USED,     /* a user has it */
	POOL_RETIRED,  /* nobody uses it; its bytes must stay a while */
	POOL_HELD,     /* given back, but its large folio has other users; counts as retired */
	POOL_GUARD,    /* kept empty beside a run */
	POOL_WINDOW,   /* unused, in a pageblock that somebody has reserved */
	POOL_ISOLATED, /* counts only: POOL_FREE in a pageblock that is isolated */
	POOL_STATES
};
#define POOL_STATE_MASK 0x0fu
#define POOL_TAIL 0x10u    /* flag: belongs to the run of the frame before it */
#define POOL_FIXED 0x20u   /* flag: used, and its contents cannot move */
#define POOL_CLAIMED 0x40u /* flag: fixed, and somebody's as part of a range: claim.h */

/* What the frames of a pageblock are for. Isolation is no type, but a flag beside it. */
enum pool_type { POOL_UNMOVABLE, POOL_MOVABLE, POOL_RESERVE, POOL_TYPES };

#define PAGEBLOCK_RUN_WORDS 21u
struct pageblock_link {
	struct pageblock *next, *prev;
};

/*
 * The lock of the zone covers all of it, with these exceptions. The state of a frame that is USED
 * or CACHED belongs to whoever has it (for CACHED, that is the cache's lock). `word` of a used
 * frame belongs to its user. `isolated` changes under the zone's lock and those of all its caches,
 * so either will do to read it. `window` and `large` are atomic.
 *
 * Invariants: n[s] frames are in state s, but USED includes CACHED there; has bit o is set if and
 * only if nr_run[o] is not 0; the free runs are the frames in POOL_FREE, unless `paired`: then all
 * 512 are free, and so are those of the buddy, and neither has a run.
 */
struct pageblock {
	uint32_t first; /* its first frame, numbered within the zone */
	uint16_t nr;    /* frames of the zone in it: 512, fewer at the zone's end */
	uint8_t type;   /* enum pool_type */
	bool isolated;  /* its free frames are nobody's */
	bool window;    /* somebody reserved it; frames in it are had by number */
	bool large;     /* its memory is one folio: given back as a whole only */
	bool paired;    /* half of a free run of POOL_MAX_ORDER */
	uint16_t nr_fixed;
	uint16_t on;  /* bit per order: it is on the zone's list of that order */
	uint16_t has; /* bit per order: it has a free run of that order */
	uint16_t n[POOL_STATES];
	uint16_t nr_run[PAGEBLOCK_ORDER + 1];
	uint64_t run[PAGEBLOCK_RUN_WORDS]; /* order 0: 8 words, 1: 4, 2: 2, above: 1 each */
	struct pageblock_link link[POOL_ORDERS];
	uint8_t state[PAGEBLOCK_FRAMES];
	uint32_t word[PAGEBLOCK_FRAMES]; /* of the user of each used frame; the pool reads none */
};

/* A pageblock whose frames are all absent, or NULL (ENOMEM). free() frees it. */
struct pageblock *pageblock_new(uint32_t first, uint32_t nr, enum pool_type type);

/*
 * Frame `off` (0..511). The caller holds what covers its state; or the zone's lock alone, and then
 * a frame may be USED or CACHED by now if this says that it is the other.
 */
static inline enum pool_state pageblock_state(const struct pageblock *pb, uint32_t off)
{
	return __atomic_load_n(&pb->state[off], __ATOMIC_RELAXED) & POOL_STATE_MASK;
}

/* Somebody has it, and may have its contents mapped. */
static inline bool pageblock_is_used(const struct pageblock *pb, uint32_t off)
{
	enum pool_state s = pageblock_state(pb, off);

	return s == POOL_USED || s == POOL_RETIRED;
}

/* Used, by somebody who wanted it as part of a range: see claim.h. */
static inline bool pageblock_is_claimed(const struct pageblock *pb, uint32_t off)
{
	return __atomic_load_n(&pb->state[off], __ATOMIC_RELAXED) & POOL_CLAIMED;
}

/* Where frames have guards: does this one, if nothing of its run follows? */
static inline bool pageblock_needs_guard(const struct pageblock *pb, uint32_t off)
{
	return pageblock_is_used(pb, off) && !pageblock_is_claimed(pb, off);
}

/* Are all its frames free? */
static inline bool pageblock_is_empty(const struct pageblock *pb)
{
	return pb->n[POOL_FREE] == pb->nr;
}

/* Add the free run of that order at `off`, which is aligned, joined with free buddies. */
void pageblock_join(struct pageblock *pb, uint32_t off, unsigned int order);
/* Take the run of that order at `off` out of the free run that has it; its rest stays free. */
void pageblock_cut(struct pageblock *pb, uint32_t off, unsigned int order);
/* Lowest free run of exactly that order, of which there must be one. */
uint32_t pageblock_first_run(const struct pageblock *pb, unsigned int order);
/* Frames of the run that the used frame `off` begins or is in: [*first, *first + result). */
uint32_t pageblock_run_of(const struct pageblock *pb, uint32_t off, uint32_t *first);
/* Count again. 0, or -1 when an invariant does not hold. Nobody may change it meanwhile. */
int pageblock_check(const struct pageblock *pb);

#endif
