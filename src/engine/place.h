/* SPDX-License-Identifier: MIT */
/* place.h - frames change their NUMA node, and nothing else. */
#ifndef KSM_PLACE_H
#define KSM_PLACE_H

#include "engine/core.h"

/* Which frames are to lie where. */
struct place {
	int from, to;        /* all that lie on `from`; equal: those that could not be made there */
	uint32_t next;       /* number that the walk comes to next */
	uint64_t placed;     /* frames that lie on `to` now */
	uint64_t not_placed; /* frames that were asked for in vain */
	bool refused;        /* the kernel moves nothing for us */
};

/*
 * Go on with a walk over all frames, for a millisecond's work; p->next grows up to the number of
 * frames of the pool. [unlocked] One thread at a time.
 */
void place_step(struct engine *e, struct place *p);

#endif
