/* SPDX-License-Identifier: MIT */
/*
 * abi.h - numbers and names on which the daemon and its clients agree.
 *
 * wire.h builds the messages from them. Code that sends no messages includes only this file. A
 * change of anything here is a change of KSM_WIRE_VERSION (wire.h).
 */
#ifndef KSM_ABI_H
#define KSM_ABI_H

#include <stdint.h>

#define KSM_PAGE_SHIFT 12
#define KSM_PAGE_SIZE 4096u

/* The start of the page that holds address x. */
static inline uint64_t page_down(uint64_t x)
{
	return x & ~(uint64_t)(KSM_PAGE_SIZE - 1);
}

/* x itself where a page starts there, otherwise the start of the next page. */
static inline uint64_t page_up(uint64_t x)
{
	return page_down(x + KSM_PAGE_SIZE - 1);
}

/*
 * First address that user memory never has, with four-level page tables (the kernel's
 * Documentation/arch/x86/x86_64/mm.rst).
 */
#define KSM_ADDR_END (1ull << 47)

/*
 * Name of an arena's file, in a tmpfs or as a memfd. Clients know mappings of frames by it in
 * /proc/self/maps.
 */
#define KSM_ARENA_NAME "ksm-arena"
/* Name of a sentinel's file, for people who read /proc; nothing depends on it. */
#define KSM_SENTINEL_NAME "ksm-sentinel"

/*
 * Pages of one order, which are also the pages of one block. 64 fit a bit mask, and a thread of a
 * client waits about 100 us at most while the agent carries an order out. Blocks are aligned in the
 * address space.
 */
#define KSM_ORDER_PAGES 64u
/* Frame numbers that name no frame, in an order. */
#define KSM_FRAME_NONE 0xffffffffu /* the page is not part of the order */
#define KSM_FRAME_ZERO 0xfffffffeu /* the client expects zeros and gives the page back */
/* The page stays as it is, private, and becomes part of the mapping of the frames to its left. */
#define KSM_FRAME_INLAY 0xfffffffdu

/* An object that has this among its constants contains libksm, whose system calls are its own. */
#define KSM_MARK "\xff libksm"

/*
 * Why a page is left out. The daemon counts pages by reason, for each client. The client knows the
 * reasons below KSM_LEFT_CLIENT_NR and sends their counts (INFO); the daemon finds the others.
 */
enum ksm_left_out {
	KSM_LEFT_MLOCKED,
	KSM_LEFT_WIPEONFORK,
	KSM_LEFT_MEMPOLICY, /* a NUMA policy that the library did not see being set */
	KSM_LEFT_PKEY,
	KSM_LEFT_SHARED,
	KSM_LEFT_HUGETLB,
	KSM_LEFT_STACK,
	KSM_LEFT_SPLICED,  /* given to vmsplice(2): a pipe may hold the page itself */
	KSM_LEFT_EXCLUDED, /* the program asked for that */
	KSM_LEFT_UFFD,     /* the program has a userfaultfd of its own there */
	KSM_LEFT_PROT,     /* not readable and writable */
	KSM_LEFT_KEPT,     /* on a frame of an earlier daemon, without room to give that up */
	KSM_LEFT_SEALED,   /* mseal(2): the kernel lets nothing else be mapped there */
	KSM_LEFT_CLIENT_NR,
	KSM_LEFT_PINNED = KSM_LEFT_CLIENT_NR, /* UFFDIO_MOVE refuses it: a device may write there */
	KSM_LEFT_FORK_SHARED,                 /* other processes of a fork map the page, too */
	KSM_LEFT_COW_BROKEN,  /* written after it was merged: private memory in a file mapping */
	KSM_LEFT_VMA_BUDGET,  /* the client cannot spare the mappings */
	KSM_LEFT_FORK_BUDGET, /* it forks so often that they would cost it too much */
	KSM_LEFT_FOREIGN, /* a file page that this daemon did not place; an earlier one may have */
	KSM_LEFT_ARENA_LIMIT, /* no frame: the arena's limit, or max_retired_frames */
	KSM_LEFT_NR
};

/* Names of the reasons, in the same order: attributes and ksmdctl show them. */
#define KSM_LEFT_NAMES                                                                             \
	{                                                                                          \
		"mlocked", "wipeonfork", "mempolicy", "pkey", "shared", "hugetlb", "stack",        \
			"spliced", "excluded", "userfaultfd", "prot", "kept", "sealed", "pinned",  \
			"fork_shared", "cow_broken", "vma_budget", "fork_budget", "foreign",       \
			"arena_limit"                                                              \
	}

/*
 * An agent that was told to release its process has no connection through which it could be told
 * to come back. A signal with this value (rt_tgsigqueueinfo(2)) does that. The kernel lets the
 * program's own user and root send it, and nobody else. It would end a process that does not expect
 * it, so it goes to a thread of this name that waits for it, and to no other.
 */
#define KSM_JOIN_SIGNAL 16 /* SIGSTKFLT */
#define KSM_JOIN_VALUE 0x6b736d6a
#define KSM_AGENT_NAME "ksm-agent"

/* Outcome of one page of an order. */
enum ksm_res {
	KSM_RES_NONE,        /* the page is not part of the order */
	KSM_RES_MERGED,      /* it stands on the frame now; for KSM_FRAME_ZERO: was given back */
	KSM_RES_DIFFERENT,   /* its contents differ from the frame's; it is untouched */
	KSM_RES_BUSY,        /* it is pinned; it is untouched */
	KSM_RES_GONE,        /* it is not present, not offered, or cannot be merged */
	KSM_RES_NOMEM,       /* the kernel refused memory or a mapping; it is untouched */
	KSM_RES_STALE,       /* the order is older than the client's latest change */
	KSM_RES_FORK_SHARED, /* other processes of a fork map it, too; it is untouched */
	KSM_RES_INLAID,      /* as KSM_FRAME_INLAY wants it */
	KSM_RES_PLAIN,       /* the client can inlay nothing at present; it is untouched */
	KSM_RES_NR
};

#endif
