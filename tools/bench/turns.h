/* SPDX-License-Identifier: MIT */
/* turns.h - the rounds of one workload, in which the sides take turns. */
#ifndef KSM_BENCH_TURNS_H
#define KSM_BENCH_TURNS_H

struct bench_config;

/*
 * Run cfg->workload, or say why it is skipped, and print the result. Returns 0, -EINTR, -ETIME when
 * some round did not come to its end, or another negative errno.
 */
int turns_run(const struct bench_config *cfg);

#endif
