/* SPDX-License-Identifier: MIT */
/* workload.h - what the memory of the tenants holds. */
#ifndef KSM_BENCH_WORKLOAD_H
#define KSM_BENCH_WORKLOAD_H

#include <stdbool.h>
#include <stdint.h>

struct workload {
	const char *name;
	const char *what;      /* one line for --help */
	unsigned int size_mib; /* of each process, by default */
	unsigned int processes;
	bool huge;   /* memory lies in transparent huge pages */
	bool dirty;  /* pages are rewritten between passes */
	bool zero;   /* use_zero_pages is on, on both sides */
	bool real;   /* programs of this machine; size_mib is their data */
	bool growth; /* several sizes of `clones`: growth.c */
};
extern const struct workload workloads[]; /* ends with one that has no name */

/* NULL when there is none. */
const struct workload *workload_find(const char *name);
/*
 * The content number of page `page` of process `proc`: 0 stands for zeros, and pages of different
 * numbers hold different bytes.
 */
uint64_t workload_content(const struct workload *w, uint32_t proc, uint64_t page,
			  uint64_t nr_pages);
/* Bytes that the workload occupies at its largest. */
uint64_t workload_bytes(const struct workload *w, unsigned int processes, unsigned int size_mib);
/*
 * Pages that pages_sharing + ksm_zero_pages reach when all is merged, of `processes` times
 * nr_pages. Returns 0 when nothing can merge or nobody knows.
 */
uint64_t workload_expected(const struct workload *w, uint32_t processes, uint64_t nr_pages);

#endif
