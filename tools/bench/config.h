/* SPDX-License-Identifier: MIT */
/* config.h - what is to be measured, as the Python program asks for it, and the limits of it. */
#ifndef KSM_BENCH_CONFIG_H
#define KSM_BENCH_CONFIG_H

#include "workload.h"

#define BENCH_PAGE 4096u
#define BENCH_MAX_PROCESSES 1000
/* Seconds, ten times what merging may take by default; the slowest that ends takes 6. */
#define BENCH_MAX_LIMIT_S 600

/*
 * pages_to_scan with sleep_millisecs = 0, on both sides: unthrottled. It is so large that the loop
 * around a batch costs nothing. It is so small that `run` = 0, for which the kernel waits until the
 * end of a batch, takes effect within a tenth of a second.
 */
#define BENCH_PAGES_TO_SCAN "10000"

/* What is compared. Both sides run through the same code; struct side is all that differs. */
enum { SIDE_KERNEL, SIDE_USER, SIDE_NR };

struct bench_config {
	struct workload workload;
	unsigned int size_mib, processes;
	int smart_scan;             /* 0, 1, or -1: as the kernel has it */
	unsigned int limit_s;       /* for merging to end */
	unsigned int max_map_count; /* mappings that a process may have; 0: as the machine has it */
};

#endif
