/* SPDX-License-Identifier: MIT */
/* round.h - what one round on one side gave. */
#ifndef KSM_BENCH_ROUND_H
#define KSM_BENCH_ROUND_H

#include <stdbool.h>

#include "config.h"
#include "metric.h"

struct round {
	double value[M_NR]; /* NAN where there is nothing to say */
	char knobs[KNOBS_TEXT];
	char note[BENCH_NOTE]; /* why something is missing; "" */
	bool incomplete;       /* something did not come to its end */
};
void round_init(struct round *r);
/*
 * Mark the round incomplete and say why, on standard error and in the round. Only the first note
 * counts: what comes after it is a consequence.
 */
void round_note(struct round *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
