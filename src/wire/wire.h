/* SPDX-License-Identifier: MIT */
/*
 * wire.h - what the daemon and the client library say to each other.
 *
 * One SOCK_SEQPACKET message is one struct below: a header, then the body. Both sides check
 * type and exact length before looking further; anything else is a protocol error and ends the
 * connection. Descriptors travel with SCM_RIGHTS, in the order given.
 *
 * A connection goes: HELLO -> WELCOME -> READY, then any message at any time.
 *
 * Order matters in one place. The daemon must never believe that a page stands on a frame no
 * longer, while it does. ADD, DEL, FORGET and ADOPT are numbered by the client (1, 2, ...). An
 * order (TXN) carries the number of the last one the daemon had taken in when it was sent; the
 * client refuses an order (KSM_RES_STALE for every page) unless that is the newest it has sent and
 * none is waiting. So what an order says about a page is never older than what happened to it.
 */
#ifndef KSM_WIRE_H
#define KSM_WIRE_H

#include <stdint.h>

#define KSM_WIRE_VERSION 1
#define KSM_CLIENT_SOCKET "client.sock"
#define KSM_CONTROL_SOCKET "control.sock"
/* Name of an arena's memfd; clients know mappings of frames by it in /proc/self/maps. */
#define KSM_ARENA_NAME "ksm-arena"
#define KSM_PAGE_SHIFT 12
#define KSM_PAGE_SIZE 4096u
/* Pages in one transaction; also the pages of one tracking block. 64 keeps the time for which a
 * client thread may wait near 100 us, and fits a bit mask. Blocks are aligned in the address space. */
#define KSM_TXN_PAGES 64u
#define KSM_FRAME_NONE 0xffffffffu /* this page is not part of the transaction */
#define KSM_FRAME_ZERO 0xfffffffeu /* expect zeros and give the page back */

enum ksm_msg_type {
	KSM_MSG_HELLO = 1,    /* C: + pidfd, /proc/self/pagemap, /proc/self/mem */
	KSM_MSG_WELCOME,      /* D: + /dev/userfaultfd, arena (read-only), sentinel */
	KSM_MSG_READY,        /* C: userfaultfds made, sentinel mapped */
	KSM_MSG_ADD,          /* C: range is offered */
	KSM_MSG_DEL,          /* C: range is withdrawn; nothing there stands on a frame any more */
	KSM_MSG_FORGET,       /* C: contents of an offered range were replaced by private memory */
	KSM_MSG_ADOPT,        /* C: pages that stand on frames already (after fork, mremap) */
	KSM_MSG_TXN,          /* D: an order to merge */
	KSM_MSG_TXN_DONE,     /* C: what became of it */
	KSM_MSG_UNMERGE,      /* D: give back private memory everywhere */
	KSM_MSG_UNMERGE_DONE, /* C */
	KSM_MSG_EPOCH,        /* D: + sentinel: map it, drop the one before */
	KSM_MSG_EPOCH_DONE,   /* C */
	KSM_MSG_STAT,         /* C: asks */
	KSM_MSG_STAT_REPLY,   /* D */
	KSM_MSG_INFO,         /* C: facts about itself that changed */
	KSM_MSG_ERROR,        /* D: last words before it drops the connection */
	KSM_MSG_NR
};

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

struct ksm_msg_hdr {
	uint32_t type;
	uint32_t len; /* of the whole message */
};

struct ksm_msg_hello {
	struct ksm_msg_hdr hdr;
	uint32_t version;
	uint32_t flags;         /* KSM_INFO_* */
	uint32_t nr_vmas;       /* lines of /proc/self/maps */
	uint32_t max_map_count; /* vm.max_map_count as the client sees it */
};
#define KSM_INFO_MERGE_ANY 1u

struct ksm_msg_welcome {
	struct ksm_msg_hdr hdr;
	uint32_t version;
	uint32_t client_id;
	uint64_t arena_id; /* differs between arenas; a client that reconnects compares it */
	uint64_t arena_pages;
	uint64_t epoch;
};

struct ksm_msg_ready {
	struct ksm_msg_hdr hdr;
};

struct ksm_msg_range { /* ADD, DEL, FORGET */
	struct ksm_msg_hdr hdr;
	uint64_t seq;
	uint64_t start, end; /* bytes, page aligned, start < end */
};

struct ksm_msg_adopt {
	struct ksm_msg_hdr hdr;
	uint64_t seq;
	uint64_t addr;
	uint32_t nr_pages;
	uint32_t frame; /* of the first page; the rest follow */
};

struct ksm_msg_txn {
	struct ksm_msg_hdr hdr;
	uint32_t id;
	uint32_t reserved;
	uint64_t seq;
	uint64_t addr; /* block start: a multiple of KSM_TXN_PAGES pages */
	uint32_t frame[KSM_TXN_PAGES];
};

struct ksm_msg_txn_done {
	struct ksm_msg_hdr hdr;
	uint32_t id;
	uint32_t reserved;
	uint8_t result[KSM_TXN_PAGES]; /* enum ksm_res */
};

struct ksm_msg_unmerge { /* UNMERGE; UNMERGE_DONE */
	struct ksm_msg_hdr hdr;
	uint32_t id;
	int32_t error; /* 0 or a positive errno: ENOMEM */
};

struct ksm_msg_epoch { /* EPOCH; EPOCH_DONE */
	struct ksm_msg_hdr hdr;
	uint64_t epoch;
};

struct ksm_msg_stat { /* STAT */
	struct ksm_msg_hdr hdr;
	uint64_t id;
};

struct ksm_msg_stat_reply {
	struct ksm_msg_hdr hdr;
	uint64_t id;
	uint64_t rmap_items, zero_pages, merging_pages;
	int64_t process_profit;
	uint64_t full_scans; /* of the daemon */
};

struct ksm_msg_info {
	struct ksm_msg_hdr hdr;
	uint32_t flags; /* KSM_INFO_* */
	uint32_t nr_vmas;
	uint64_t cpu_ns; /* CPU time the agent has spent so far */
	uint64_t left_out[KSM_LEFT_CLIENT_NR];
};

struct ksm_msg_error {
	struct ksm_msg_hdr hdr;
	int32_t error; /* positive errno */
	char text[116];
};

union ksm_msg {
	struct ksm_msg_hdr hdr;
	struct ksm_msg_hello hello;
	struct ksm_msg_welcome welcome;
	struct ksm_msg_ready ready;
	struct ksm_msg_range range;
	struct ksm_msg_adopt adopt;
	struct ksm_msg_txn txn;
	struct ksm_msg_txn_done txn_done;
	struct ksm_msg_unmerge unmerge;
	struct ksm_msg_epoch epoch;
	struct ksm_msg_stat stat;
	struct ksm_msg_stat_reply stat_reply;
	struct ksm_msg_info info;
	struct ksm_msg_error error;
};

/* Exact size of a message of this type, 0 if there is no such type. */
static inline uint32_t ksm_msg_size(uint32_t type)
{
	static const uint16_t size[KSM_MSG_NR] = {
		[KSM_MSG_HELLO] = sizeof(struct ksm_msg_hello),
		[KSM_MSG_WELCOME] = sizeof(struct ksm_msg_welcome),
		[KSM_MSG_READY] = sizeof(struct ksm_msg_ready),
		[KSM_MSG_ADD] = sizeof(struct ksm_msg_range),
		[KSM_MSG_DEL] = sizeof(struct ksm_msg_range),
		[KSM_MSG_FORGET] = sizeof(struct ksm_msg_range),
		[KSM_MSG_ADOPT] = sizeof(struct ksm_msg_adopt),
		[KSM_MSG_TXN] = sizeof(struct ksm_msg_txn),
		[KSM_MSG_TXN_DONE] = sizeof(struct ksm_msg_txn_done),
		[KSM_MSG_UNMERGE] = sizeof(struct ksm_msg_unmerge),
		[KSM_MSG_UNMERGE_DONE] = sizeof(struct ksm_msg_unmerge),
		[KSM_MSG_EPOCH] = sizeof(struct ksm_msg_epoch),
		[KSM_MSG_EPOCH_DONE] = sizeof(struct ksm_msg_epoch),
		[KSM_MSG_STAT] = sizeof(struct ksm_msg_stat),
		[KSM_MSG_STAT_REPLY] = sizeof(struct ksm_msg_stat_reply),
		[KSM_MSG_INFO] = sizeof(struct ksm_msg_info),
		[KSM_MSG_ERROR] = sizeof(struct ksm_msg_error),
	};
	return type < KSM_MSG_NR ? size[type] : 0;
}

#endif
