/* SPDX-License-Identifier: MIT */
/* config.h - what the operator asked for, and the limits of it. */
#ifndef KSM_BENCH_CONFIG_H
#define KSM_BENCH_CONFIG_H

#include <stdbool.h>

struct workload;

#define BENCH_PAGE 4096u
#define BENCH_MAX_PROCESSES 1000
#define BENCH_MAX_ROUNDS 100
/* Seconds. Merging that takes longer is reported as endless; the slowest that ends takes 6. */
#define BENCH_LIMIT_S 60

/*
 * pages_to_scan with sleep_millisecs = 0, on both sides: unthrottled. It is so large that the loop
 * around a batch costs nothing. It is so small that `run` = 0, for which the kernel waits until the
 * end of a batch, takes effect within a tenth of a second.
 */
#define BENCH_PAGES_TO_SCAN "10000"

/* Lengths of texts with their NUL: a note on what is missing, and the knobs of a side. */
#define BENCH_NOTE 240
#define KNOBS_TEXT 1024

/* What is compared. Both sides run through the same code; struct side is all that differs. */
enum { SIDE_KERNEL, SIDE_USER, SIDE_NR };
extern const char *const side_name[SIDE_NR];

struct bench_config {
	const struct workload *workload;
	unsigned int size_mib, processes, rounds;
	int smart_scan;       /* 0, 1, or -1: as the kernel has it */
	unsigned int limit_s; /* for merging to end */
	bool side[SIDE_NR];
	bool json;
	bool merge_only; /* end a round when all is merged */
};

#endif
