/* SPDX-License-Identifier: MIT */
/*
 * polls.h - how long the next pass waits for the answers to the orders of the last.
 *
 * Merging is a part of the pass that found the pages, so the scan thread looks for answers before
 * it begins another: so often, and more often after an answer, because its sender is alive, if
 * slow. What is written meanwhile is to be seen no later than after a pause, so after
 * max_idle_millisecs it looks for answers no more. A costly pass waits for longer, as long as
 * answers come: many times what the last one took of CPU time, but not a second. A pass over 30,000
 * mappings takes 6 ms and finds little that is new meanwhile: where clients were slow, passes were
 * a third of all that merging cost.
 */
#ifndef KSMD_POLLS_H
#define KSMD_POLLS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/span.h"

#define POLLS_FIRST 50u     /* one in a millisecond */
#define POLLS_MORE 200u     /* after an answer */
#define POLLS_SHARE 20u     /* times what the pass took */
#define POLLS_MOST_MS 1000u /* the default of max_idle_millisecs */

/* Zero: nothing is waited for. */
struct polls {
	unsigned int left; /* before the next pass */
	uint64_t begun_ms; /* when they began; 0: take no more of them than are left */
	uint64_t worth_ms; /* so long the next pass is put off while answers come */
	uint64_t fewest;   /* orders seen */
};

/* A pass that took so much CPU time has left so many orders. */
static inline void polls_begin(struct polls *p, uint64_t now_ms, uint64_t orders, uint64_t cpu_ms)
{
	*p = (struct polls){
		.left = POLLS_FIRST,
		.begun_ms = now_ms,
		.worth_ms = u64_min(cpu_ms * POLLS_SHARE, POLLS_MOST_MS),
		.fewest = orders,
	};
}

/* One poll: so many orders are left. True: another is worth it before the next pass. */
static inline bool polls_next(struct polls *p, uint64_t now_ms, uint64_t orders,
			      uint64_t max_idle_ms)
{
	uint64_t took = now_ms - p->begun_ms;
	bool answered = orders && orders < p->fewest && p->begun_ms;

	p->left = orders ? p->left - 1 : 0;
	if (answered && took < max_idle_ms) {
		p->fewest = orders;
		p->left = POLLS_MORE;
	} else if (answered && !p->left && took < p->worth_ms) {
		p->fewest = orders;
		p->left = POLLS_FIRST;
	}
	return p->left > 0;
}

/* Somebody waits for passes. */
static inline void polls_hasten(struct polls *p)
{
	p->begun_ms = 0;
	if (p->left > POLLS_FIRST)
		p->left = POLLS_FIRST;
}

#endif
