/* SPDX-License-Identifier: MIT */
/* churn.h - a thread that rewrites pages for ever, as programs do with what they work on. */
#ifndef KSM_BENCH_CHURN_H
#define KSM_BENCH_CHURN_H

#include <stdint.h>
#include <sys/types.h>

struct churn;
/*
 * Start a thread that calls rewrite(arg, page) for each of `nr_pages` pages once in CHURN_MS, in
 * order, and then again. Returns 0 or an errno.
 */
int churn_start(struct churn **out, void (*rewrite)(void *arg, uint64_t page), void *arg,
		uint64_t nr_pages);
/* End it; then nothing is written any more. Does nothing when *c is NULL, and sets it to NULL. */
void churn_stop(struct churn **c);
/* Its thread; 0 while there is none. */
pid_t churn_tid(struct churn *c);

#endif
