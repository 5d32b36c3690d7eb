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
 * order (ORDER) carries the number of the last one the daemon had taken in when it was sent; the
 * client refuses an order (KSM_RES_STALE for every page) unless that is the newest it has sent and
 * none is waiting. So what an order says about a page is never older than what happened to it.
 */
#ifndef KSM_WIRE_H
#define KSM_WIRE_H

#include <stdint.h>

#include "wire/abi.h"

#define KSM_WIRE_VERSION 1
#define KSM_CLIENT_SOCKET "client.sock"
#define KSM_CONTROL_SOCKET "control.sock"

enum ksm_msg_type {
	KSM_MSG_HELLO = 1,    /* C: + pidfd, /proc/self/pagemap, /proc/self/mem */
	KSM_MSG_WELCOME,      /* D: + /dev/userfaultfd, arena (read-only), sentinel */
	KSM_MSG_READY,        /* C: userfaultfds made, sentinel mapped */
	KSM_MSG_ADD,          /* C: range is offered */
	KSM_MSG_DEL,          /* C: range is withdrawn; nothing there stands on a frame any more */
	KSM_MSG_FORGET,       /* C: contents of an offered range were replaced by private memory */
	KSM_MSG_ADOPT,        /* C: pages that stand on frames already (after fork, mremap) */
	KSM_MSG_ORDER,        /* D: an order to merge */
	KSM_MSG_ORDER_DONE,   /* C: what became of it */
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

struct ksm_msg_order {
	struct ksm_msg_hdr hdr;
	uint32_t id;
	uint32_t reserved;
	uint64_t seq;
	uint64_t addr; /* block start: a multiple of KSM_ORDER_PAGES pages */
	uint32_t frame[KSM_ORDER_PAGES];
};

struct ksm_msg_order_done {
	struct ksm_msg_hdr hdr;
	uint32_t id;
	uint32_t reserved;
	uint8_t result[KSM_ORDER_PAGES]; /* enum ksm_res */
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
	struct ksm_msg_order order;
	struct ksm_msg_order_done order_done;
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
		[KSM_MSG_ORDER] = sizeof(struct ksm_msg_order),
		[KSM_MSG_ORDER_DONE] = sizeof(struct ksm_msg_order_done),
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
