/* SPDX-License-Identifier: MIT */
/* relocation.h - which frames are to move where, and what clients would need for it. */
#ifndef KSM_RELOCATION_H
#define KSM_RELOCATION_H

#include "engine/core.h"

#define RELOCATION_FRAMES PAGEBLOCK_FRAMES
#define RELOCATION_SITES 8192u /* of one: some milliseconds' work under the lock */

/* Sorted by `from`, which differ. `to` may be POOL_NONE: this frame moves nowhere. */
struct relocation {
	uint32_t nr;
	struct relocation_frame {
		uint32_t from, to;
	} at[RELOCATION_FRAMES];
};

/* Index of the first frame that is not below `from`; nr: there is none. */
uint32_t relocation_index(const struct relocation *r, uint32_t from);
/* Where the frame is to go; POOL_NONE: nowhere. */
static inline uint32_t relocation_of(const struct relocation *r, uint32_t frame)
{
	uint32_t i = relocation_index(r, frame);

	return i < r->nr && r->at[i].from == frame ? r->at[i].to : POOL_NONE;
}
/* It is not there yet, and there is room for it. */
void relocation_add(struct relocation *r, uint32_t from, uint32_t to);

/*
 * What a move would cost, all clients together. `expected` is `more` again, in halves of mappings,
 * if more of the same is to follow for the client that is favoured: two frames that stand side by
 * side for another client, whose pages need more mappings than its do, are parted by whichever goes
 * first, so each pays for half of that.
 */
struct relocation_price {
	int64_t more;     /* mappings that would be needed more, or fewer if below 0 */
	int64_t expected; /* the same; see above */
	uint32_t sites;   /* pages that stand on the frames */
	bool refused;     /* a client would need more whose budget may refuse that */
	bool too_many;    /* more than RELOCATION_SITES do; the others say nothing then */
};

/*
 * The price of moving the frames [first, end) of the way with all their pages, the other frames of
 * it having moved already; all are live. favoured: a client of the engine, or NULL.
 */
struct relocation_price relocation_price(struct engine *e, const struct relocation *r,
					 uint32_t first, uint32_t end,
					 const struct mm_slot *favoured) NEEDS(e->lock);

#endif
