/* SPDX-License-Identifier: MIT */
/*
 * rest.h - how long to pause after passes that yield little.
 *
 * A pass over memory in many mappings costs tens of milliseconds though nothing has changed: three
 * guests of 95,000 mappings cost 48. If a few pages are written all the time, as idle guests do,
 * and pauses were no longer for that, passes would take a core for ever and merge next to nothing.
 *
 * So a pass is lean that yielded less than a hundredth of what it looked at, and after lean passes
 * pauses grow with what these cost: until they take a fiftieth of a core, as long as the pause does
 * not keep new contents waiting for two seconds, and in any case until they take no more than the
 * share that the operator gives (max_cpu_percent). They grow by doubling: one lean pass among
 * others says little. A pass that costs nothing, as over calm memory in few mappings, is not
 * delayed by this.
 *
 * And a pass after a lean one comes in stints. A program on the CPU where the scan thread wakes
 * waits until that sleeps again, as do all who asked the program for something: when a pass did all
 * in one go, one answer in a hundred of a busy redis took 2 ms in place of 0.4 (ksm-bench
 * programs). A pass that finds something to merge, or takes long, goes on without.
 *
 * What the clients' agents spend belongs to what passes cost. They tell it themselves, so it counts
 * no more than what the daemon measures of its own: a liar doubles the pauses at most.
 */
#ifndef KSMD_REST_H
#define KSMD_REST_H

#include <stdint.h>

#include "base/span.h"

#define REST_THRIFT 49u      /* times what a pass costs: 2 % of a core */
#define REST_THRIFT_MS 1800u /* but new contents are seen within two seconds */
#define REST_LEAN 100u       /* a part of what was looked at */
#define REST_FREE 100u       /* max_cpu_percent: passes may take all that they need */

/* A stint. A program answers in tens of microseconds: it waits for no more than some ten. */
#define REST_STINT_NS 300000u
/* Stints of one pass: twice what three guests at rest need. What takes longer is new memory. */
#define REST_STINTS_NS 100000000u

/* The pauses after the passes so far. */
struct rest {
	uint64_t pause_us;
};

/* A pass that has ended. */
struct rest_pass {
	uint64_t cpu_us;    /* of all threads, since the pass before ended */
	uint64_t agents_us; /* of the clients' agents, as they tell */
	uint64_t looked;    /* pages */
	uint64_t yielded;   /* pages merged, on their way, or new */
	uint32_t percent;   /* max_cpu_percent, 1..REST_FREE */
};

/* Milliseconds to pause at least; 0: as ever. *least_ms: the part that no client can shorten. */
static inline uint64_t rest_after(struct rest *r, const struct rest_pass *p, uint64_t *least_ms)
{
	uint64_t cost = p->cpu_us + u64_min(p->agents_us, p->cpu_us);
	uint64_t share = cost * (REST_FREE - p->percent) / p->percent;
	uint64_t thrift = u64_min(cost * REST_THRIFT, REST_THRIFT_MS * 1000);

	*least_ms = 0;
	if (p->percent == REST_FREE || (p->yielded && p->yielded * REST_LEAN >= p->looked)) {
		r->pause_us = 0;
		return 0;
	}
	r->pause_us = u64_min(u64_max(share, thrift), u64_max(cost, r->pause_us * 2));
	*least_ms = u64_min(r->pause_us, share) / 1000;
	return r->pause_us / 1000;
}

/*
 * Nanoseconds of CPU time to work until the next moment of sleep; 0: until all is done. The scan
 * thread has worked for spent_ns in this pass; orders are under way or waiting.
 */
static inline uint64_t rest_stint(const struct rest *r, uint64_t spent_ns, uint64_t orders)
{
	return r->pause_us && !orders && spent_ns < REST_STINTS_NS ? REST_STINT_NS : 0;
}

#endif
