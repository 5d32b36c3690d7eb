/* SPDX-License-Identifier: MIT */
/*
 * claim.h - frames that somebody wanted as a range: emptied by their owner, and kept for him.
 *
 * Claimed frames count as used, and cannot move. They have no memory and no word, and the limit on
 * frames is not about them: it is one on memory. A range that touches one is refused at once, with
 * its number (range.h), so nobody waits for what does not come.
 */
#ifndef KSM_CLAIM_H
#define KSM_CLAIM_H

#include "pool/pool.h"

/*
 * Claim [start, end), all of which is isolated and free or absent; range_isolate() was by the
 * caller, and he undoes it. Returns 0, -EINVAL (no range of one zone), -EBUSY (not isolated, or a
 * frame is in use), -ENOMEM. On failure *who says which and why, and nothing has changed.
 */
int claim_take(struct pool *p, uint32_t start, uint32_t end, struct pool_culprit *who);
/* Give it, or a part of it, back. 0, or -EINVAL: a frame of it is not claimed; none is then. */
int claim_give(struct pool *p, uint32_t start, uint32_t end, struct pool_culprit *who);
/* The first run of claimed frames in [f, end) of one zone: its first; POOL_NONE: there is none. */
uint32_t claim_next(struct pool *p, uint32_t f, uint32_t end, uint32_t *nr);

/*
 * Where nr frames of zone `nid` might be claimed, the first a multiple of `align` (a power of two):
 * in the reserve; else where there is no window; else anywhere. Not where something cannot move.
 * Each call with the same search goes on behind the last place. POOL_NONE: there is none left.
 */
struct claim_search {
	uint32_t nr, align;
	uint32_t tier, next; /* 0 at first */
};
uint32_t claim_place(struct pool *p, int nid, struct claim_search *s);

#endif
