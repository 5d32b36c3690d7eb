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
 * Mappings that all clients together would need more, or fewer, if these frames moved with all
 * their pages; all are live. *sites: pages that stand on them. INT64_MAX: more than
 * RELOCATION_SITES do.
 */
int64_t relocation_price(struct engine *e, const struct relocation *r, uint32_t *sites)
	NEEDS(e->lock);

#endif
