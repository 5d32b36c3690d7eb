/* SPDX-License-Identifier: MIT */
/* workload.h - what the memory of the tenants holds. */
#ifndef KSM_BENCH_WORKLOAD_H
#define KSM_BENCH_WORKLOAD_H

#include <stdbool.h>
#include <stdint.h>

enum contents {
	CONTENTS_SAME,      /* alike in all processes, at the same places */
	CONTENTS_PERMUTED,  /* alike, in another order in each process */
	CONTENTS_SCATTERED, /* one page in eight has a twin in each other process */
	CONTENTS_UNIQUE,    /* no two pages alike */
	CONTENTS_ZERO,      /* half of the pages are zeros; use_zero_pages is on, on both sides */
	CONTENTS_REAL,      /* programs of this machine: real.c */
	CONTENTS_ALTERNATE, /* every second page has a twin, in another order in each process */
	CONTENTS_GUESTS,    /* guests of QEMU: guests.c */
	CONTENTS_INSTAGRAM, /* 29 % alike in all, 10 % unique, 61 % rewritten all the time */
	CONTENTS_NR
};
extern const char *const contents_name[CONTENTS_NR];

/* How it lies there, and what its processes do with it. */
enum manner {
	MANNER_PLAIN,
	MANNER_HUGE,   /* in transparent huge pages */
	MANNER_DIRTY,  /* pages are rewritten between passes */
	MANNER_CHURN,  /* the pages that workload_volatile() names are rewritten all the time */
	MANNER_SPARSE, /* single pages, far apart in a vast reservation */
	MANNER_FORKED, /* of a parent and its children, which have rewritten half of it */
	MANNER_BESIDE, /* beside a server that is not merged: corunner.c */
	MANNER_NR
};
extern const char *const manner_name[MANNER_NR];

struct workload {
	enum contents contents;
	enum manner manner;
};
/* Whether they are programs of this machine, and no tenants. */
static inline bool workload_is_real(enum contents c)
{
	return c == CONTENTS_REAL || c == CONTENTS_GUESTS;
}
/*
 * The content number of page `page` of process `proc`: 0 stands for zeros, and pages of different
 * numbers hold different bytes.
 */
uint64_t workload_content(enum contents c, uint32_t proc, uint64_t page, uint64_t nr_pages);
/* Whether the page is one of those that its process rewrites all the time. */
bool workload_volatile(enum contents c, uint64_t page);
/*
 * Pages that pages_sharing + ksm_zero_pages reach when all is merged, of `processes` times
 * nr_pages. Returns 0 when nothing can merge or nobody knows.
 */
uint64_t workload_expected(enum contents c, uint32_t processes, uint64_t nr_pages);

#endif
