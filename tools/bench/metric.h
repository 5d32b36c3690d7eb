/* SPDX-License-Identifier: MIT */
/* metric.h - what is measured: one value for each round and side. */
#ifndef KSM_BENCH_METRIC_H
#define KSM_BENCH_METRIC_H

enum metric {
	M_MERGE_S,       /* from run = 1 to the last merge (two passes where nothing can merge) */
	M_CPU_S,         /* all CPU spent on merging in that time */
	M_REGISTER_MS,   /* of the slowest client: the madvise call, and until it is served */
	M_MERGED_PCT,    /* of what can be merged */
	M_REST_CPU_MS,   /* CPU of one pass over calm memory (dirty: 1 % of it changed) */
	M_SAVED_MIB,     /* sum of the clients' PSS, before less after */
	M_SAVED_NET_MIB, /* less daemon, VMAs, page tables, the kernel's metadata */
	M_SAVED_SYSTEM_MIB, /* memory in use on the machine, before less after */
	M_VMAS,             /* mappings of a client, more than before it registered */
	M_REGION_VMAS,      /* of these, in the memory that is merged */
	M_PAGE_BYTES,       /* metadata of a tracked page that is not merged */
	M_COW_NS,           /* median write to a merged page */
	M_DIRTY_NS,         /* mean rewrite of a page between passes */
	M_LOAD_P999_US,     /* as a client's thread feels it while merging goes on */
	M_LOAD_MAX_US,
	M_LOAD_CONTROL_US, /* 99.9 % of the same thread's touches of memory that nobody merges */
	M_LOAD_BEYOND_US,  /* 99.9 % of the delays that the control does not explain */
	M_STORE_P999_US,
	M_STORE_MAX_US,
	M_STORE_CONTROL_US,
	M_STORE_BEYOND_US,
	M_CONTROL_MAX_US, /* worst touch of the control, load or store */
	M_PROBES,         /* stores that were timed; there are four times as many loads */
	M_PROBE_GAP_MS,   /* longest time without one */
	M_OTHERS_PCT,     /* of one CPU, used by anything else while merging */
	M_PAGE_CPU_US,    /* growth.c: the small size, the large one, few processes, many, ... */
	M_PAGE_WALL_US,
	M_SIZE_CPU_US,
	M_SIZE_WALL_US,
	M_FEW_CPU_US,
	M_FEW_WALL_US,
	M_MANY_CPU_US,
	M_MANY_WALL_US,
	M_GROW_SIZE_CPU, /* ... and the quotients */
	M_GROW_SIZE_WALL,
	M_GROW_MANY_CPU,
	M_GROW_MANY_WALL,
	M_NR
};

/* As in JSON. The report names them in words: report/metrics.py. */
extern const char *const metric_key[M_NR];

#endif
