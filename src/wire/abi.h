/* SPDX-License-Identifier: MIT */
/*
 * abi.h - numbers and names that the daemon and its clients must agree on.
 *
 * wire.h builds the messages from them. Code that sends no messages includes only this file.
 */
#ifndef KSM_ABI_H
#define KSM_ABI_H

#include <stdint.h>

#define KSM_PAGE_SHIFT 12
#define KSM_PAGE_SIZE 4096u
/* End of the user address space with four-level page tables: Documentation/arch/x86/x86_64/mm.rst. */
#define KSM_ADDR_END (1ull << 47)
/* Name of an arena's memfd; clients know mappings of frames by it in /proc/self/maps. */
#define KSM_ARENA_NAME "ksm-arena"
/* The same of a sentinel, for those who read /proc; nothing depends on it. */
#define KSM_SENTINEL_NAME "ksm-sentinel"
/*
 * Pages in one order, which are also the pages of one block. 64 keeps the time for which a thread
 * of a client may wait near 100 us, and fits a bit mask. Blocks are aligned in the address space.
 */
#define KSM_ORDER_PAGES 64u
#define KSM_FRAME_NONE 0xffffffffu /* this page is not part of the order */
#define KSM_FRAME_ZERO 0xfffffffeu /* expect zeros and give the page back */

/* Why a page was left out. Kept per client, in pages; SEMANTICS: "a reason with a count". */
enum ksm_left_out {
	KSM_LEFT_MLOCKED,
	KSM_LEFT_DONTFORK,
	KSM_LEFT_WIPEONFORK,
	KSM_LEFT_DONTDUMP,
	KSM_LEFT_MEMPOLICY,
	KSM_LEFT_PKEY,
	KSM_LEFT_SHARED,
	KSM_LEFT_HUGETLB,
	KSM_LEFT_STACK,
	KSM_LEFT_SPLICED,   /* handed to vmsplice(2): a pipe may hold the page itself */
	KSM_LEFT_PROT,      /* not readable and writable */
	KSM_LEFT_CLIENT_NR, /* the ones above are known to the client and sent in INFO */
	KSM_LEFT_PINNED = KSM_LEFT_CLIENT_NR, /* refused by UFFDIO_MOVE: DMA, or shared by a fork */
	KSM_LEFT_COW_BROKEN, /* written after it was merged: private memory in a file mapping */
	KSM_LEFT_VMA_BUDGET,
	KSM_LEFT_FOREIGN, /* a file page that this daemon did not place (an earlier daemon's) */
	KSM_LEFT_NR
};
#define KSM_LEFT_NAMES                                                                             \
	{                                                                                          \
		"mlocked", "dontfork", "wipeonfork", "dontdump", "mempolicy", "pkey", "shared",    \
			"hugetlb", "stack", "spliced", "prot", "pinned", "cow_broken",             \
			"vma_budget", "foreign"                                                    \
	}

/* Outcome of one page of an order. */
enum ksm_res {
	KSM_RES_NONE, /* page was not part of the order */
	KSM_RES_MERGED,
	KSM_RES_DIFFERENT, /* contents had changed; page is untouched */
	KSM_RES_BUSY,      /* pinned, or shared by a fork */
	KSM_RES_GONE,      /* not present, not offered, or not in a state to be merged */
	KSM_RES_NOMEM,     /* the kernel refused memory or a mapping; page is untouched */
	KSM_RES_STALE,     /* order was older than the client's latest change */
	KSM_RES_NR
};

#endif
