/* SPDX-License-Identifier: MIT */
/* growth.h - what a page costs as memory and processes grow. */
#ifndef KSM_BENCH_GROWTH_H
#define KSM_BENCH_GROWTH_H

struct bench_config;
struct round;

/* One round of all sizes on one side. Returns the last error of a size, 0 when all went well. */
int growth_round(const struct bench_config *cfg, int side, struct round *out);

#endif
