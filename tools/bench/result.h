/* SPDX-License-Identifier: MIT */
/* result.h - what the rounds of one workload gave, and how it is written. */
#ifndef KSM_BENCH_RESULT_H
#define KSM_BENCH_RESULT_H

#include <stdbool.h>
#include <stdio.h>

#include "config.h"
#include "machine.h"
#include "metric.h"

#define BENCH_MAX_NOTES 8

struct bench_result {
	struct machine machine;
	char workload[32];
	unsigned int size_mib, processes, rounds;
	char date[32];
	char knobs[SIDE_NR][KNOBS_TEXT];
	char note[BENCH_MAX_NOTES][BENCH_NOTE];
	int nr_notes;
	bool incomplete[SIDE_NR]; /* a round of this side did not come to its end */
	char skipped[BENCH_NOTE]; /* why nothing was measured; "" */
	double value[SIDE_NR][M_NR][BENCH_MAX_ROUNDS]; /* NAN: could not be measured */
	int nr[SIDE_NR];                               /* rounds that have their values */
};
/* Without any value: the machine, the day and what was asked for. */
void result_init(struct bench_result *r, const struct bench_config *cfg);
/* Notes beyond BENCH_MAX_NOTES are dropped. */
void result_note(struct bench_result *r, const char *text);
/* One JSON document on one line. */
void result_json(FILE *f, const struct bench_result *r);

#endif
