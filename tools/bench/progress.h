/* SPDX-License-Identifier: MIT */
/*
 * progress.h - waiting for the end of merging, and when it came.
 *
 * Functions return 0, -EINTR when asked to stop, -ETIME when it takes longer than the limit, or
 * another negative errno.
 */
#ifndef KSM_BENCH_PROGRESS_H
#define KSM_BENCH_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct run;

struct progress {
	uint64_t ns;  /* from the start to the last change */
	uint64_t cpu; /* run_cpu_ns() by then, not at its end */
	uint64_t merged;
};
/*
 * Until `goal` pages are merged, or nothing has changed for long; without a goal, until two passes
 * are over. Only a new maximum is a change. `start`: clock_ns() when merging began. -ETIME comes
 * with a note, which says whether there were probes (`probes`), and *p stands then as well.
 */
int progress_to_goal(struct run *r, uint64_t start, uint64_t goal, bool probes, struct progress *p);
/* The same where nobody knows the goal: until what is merged has hardly grown for long. */
int progress_to_rest(struct run *r, uint64_t start, struct progress *p);
/* Until full_scans is from + passes. -ETIME comes without a note. */
int progress_passes(struct run *r, uint64_t from, uint64_t passes, uint64_t timeout_ms);

#endif
