/* SPDX-License-Identifier: MIT */
/* stalls.h - how long threads of the processes are stopped while merging goes on. */
#ifndef KSM_BENCH_STALLS_H
#define KSM_BENCH_STALLS_H

struct run;

/*
 * Register the processes of a run, merge with probers in them, and put the stalls into its round.
 * Returns like progress_to_goal().
 */
int stalls_measure(struct run *r);

#endif
