/* SPDX-License-Identifier: MIT */
/*
 * measure.h - one round on one side.
 *
 * What was measured before an error stands in `out`, with a note. -ETIME means that something did
 * not end in time, and that nothing else is wrong.
 */
#ifndef KSM_BENCH_MEASURE_H
#define KSM_BENCH_MEASURE_H

struct bench_config;
struct round;

int measure_round(const struct bench_config *cfg, int side, struct round *out);
/* Only time and CPU until all is merged. */
int measure_cost(const struct bench_config *cfg, int side, struct round *out);

#endif
