/* SPDX-License-Identifier: MIT */
/* series.h - the values of one metric on one side, one for each round. */
#ifndef KSM_BENCH_SERIES_H
#define KSM_BENCH_SERIES_H

#include "config.h"

struct series {
	double v[BENCH_MAX_ROUNDS]; /* NAN: could not be measured in this round */
	int nr;
};
struct summary {
	double median, min, max; /* NAN when nr is 0 */
	int nr;                  /* values that were measured */
};
struct summary series_summary(const struct series *s);

#endif
