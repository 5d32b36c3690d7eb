/* SPDX-License-Identifier: MIT */
/* heap.h - offer what was added to the main heap. */
#ifndef KSM_HEAP_H
#define KSM_HEAP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "client/as.h"

/*
 * A forked child inherits the heap, and with it the whole of this. The lock of as.h covers end,
 * once `offered` is set; poll_ms is the agent's.
 */
struct heap {
	_Atomic uint32_t offered; /* never goes back to 0 */
	uint64_t end;             /* page aligned; the heap up to here has been offered */
	uint32_t poll_ms;         /* how long until the next poll */
};

/* The heap up to `end` is known; the agent offers what is added from now on. Called once. */
void heap_offer(struct heap *h, uint64_t end);
static inline bool heap_is_offered(const struct heap *h)
{
	return atomic_load(&h->offered);
}
/* The program has moved the break down to `end` (page aligned). */
void heap_shrunk(struct heap *h, uint64_t end) NEEDS(as.lock);

/* The agent starts: poll often at first. */
void heap_begin(struct heap *h);
/* Offer what was added, and poll again sooner or later. Context: the agent; lock not held. */
void heap_poll(struct heap *h);

#endif
