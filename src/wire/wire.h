/* SPDX-License-Identifier: MIT */
/*
 * wire.h - the messages that the daemon and the client library exchange.
 *
 * A SOCK_SEQPACKET message is one struct below: a header, then the body. Both sides check the type
 * and the exact length before they look further (ksm_msg_size()); a message that fails the check is
 * a protocol error and ends the connection. SCM_RIGHTS carries descriptors, in the order given.
 *
 * A connection begins with HELLO, WELCOME and READY. Afterwards either side sends its messages at
 * any time.
 *
 * The daemon must never believe that a page has left a frame while the client still maps it: it
 * would free the frame under the page. So the client numbers each ADD, DEL, FORGET and ADOPT (1, 2,
 * ...), and an ORDER carries the number of the last one that the daemon took in before. The client
 * carries an order out only when that is the newest number it has sent and none waits to be sent.
 * Otherwise it answers KSM_RES_STALE for every page. What an order assumes of a page is therefore
 * never older than what happened to the page.
 */
#ifndef KSM_WIRE_H
#define KSM_WIRE_H

#include <stdint.h>

#include "wire/abi.h"
#include "wire/label.h"

#define KSM_WIRE_VERSION 5
#define KSM_CLIENT_SOCKET "client.sock"
#define KSM_CONTROL_SOCKET "control.sock"

/* C: the client sends it, D: the daemon; +: the descriptors that come with it. */
enum ksm_msg_type {
	KSM_MSG_HELLO = 1,    /* C: begins; + pidfd, /proc/self/pagemap, /proc/self/mem */
	KSM_MSG_WELCOME,      /* D: accepts; + /dev/userfaultfd, arena (read-only), sentinel */
	KSM_MSG_READY,        /* C: made its userfaultfds and mapped the sentinel */
	KSM_MSG_ADD,          /* C: offers a range */
	KSM_MSG_DEL,          /* C: withdraws a range; nothing there stands on a frame now */
	KSM_MSG_FORGET,       /* C: replaced the pages of an offered range by private memory */
	KSM_MSG_ADOPT,        /* C: has pages on frames already, after fork or mremap */
	KSM_MSG_ORDER,        /* D: orders the client to merge pages of a block */
	KSM_MSG_ORDER_DONE,   /* C: says what became of each page */
	KSM_MSG_UNMERGE,      /* D: asks for private memory in place of every frame */
	KSM_MSG_UNMERGE_DONE, /* C: did so, or failed */
	KSM_MSG_EPOCH,        /* D: begins an epoch; + sentinel, which replaces the last one */
	KSM_MSG_EPOCH_DONE,   /* C: did so */
	KSM_MSG_STAT,         /* C: asks for its counters */
	KSM_MSG_STAT_REPLY,   /* D: answers */
	KSM_MSG_RELEASE,      /* D: asks for private memory, and for no sign of merging */
	KSM_MSG_RELEASE_DONE, /* C: did so and hangs up, or could not */
	KSM_MSG_INFO,         /* C: tells facts about itself that changed */
	KSM_MSG_FORKS,        /* C: has forked; once a second at most */
	KSM_MSG_GIVE_BACK,    /* D: asks for private memory in place of frames of a block */
	KSM_MSG_ERROR,        /* D: says why, and drops the connection */
	KSM_MSG_NR
};

struct ksm_msg_hdr {
	uint32_t type;
	uint32_t len; /* bytes of the whole message */
};

struct ksm_msg_hello {
	struct ksm_msg_hdr hdr;
	uint32_t version;
	uint32_t flags;              /* KSM_INFO_* */
	uint32_t nr_vmas;            /* lines of /proc/self/maps */
	uint32_t max_map_count;      /* vm.max_map_count as the client sees it */
	char domain[KSM_LABEL_SIZE]; /* the domain that it asks for; zeros: the one it is in */
};
#define KSM_INFO_MERGE_ANY 1u /* offers all its memory, also what it maps later */
#define KSM_INFO_SHORT 2u     /* frames stay: its memory limit leaves no room to give them up */

struct ksm_msg_welcome {
	struct ksm_msg_hdr hdr;
	uint32_t version;
	uint32_t client_id;
	uint64_t arena_id; /* of this arena alone; a client that reconnects compares it */
	uint64_t arena_pages;
	uint64_t epoch;
};

struct ksm_msg_ready {
	struct ksm_msg_hdr hdr;
};

/* ADD, DEL, FORGET */
struct ksm_msg_range {
	struct ksm_msg_hdr hdr;
	uint64_t seq;        /* number of this change */
	uint64_t start, end; /* bytes, page aligned, start < end */
};

struct ksm_msg_adopt {
	struct ksm_msg_hdr hdr;
	uint64_t seq;  /* number of this change */
	uint64_t addr; /* of the first page */
	uint32_t nr_pages;
	uint32_t frame; /* of the first page; the others stand on the frames after it */
};

struct ksm_msg_order {
	struct ksm_msg_hdr hdr;
	uint32_t id;
	/*
	 * 0, or a frame plus 1: where page i of the block stands on frame `from` - 1 + i, that has
	 * the bytes of frame[i], which was copied from it, and frames never change.
	 */
	uint32_t from;
	uint64_t seq;  /* of the last change that the daemon has taken in */
	uint64_t addr; /* block start: a multiple of KSM_ORDER_PAGES pages */
	uint32_t frame[KSM_ORDER_PAGES];
};

struct ksm_msg_order_done {
	struct ksm_msg_hdr hdr;
	uint32_t id;
	uint32_t reserved;
	uint8_t result[KSM_ORDER_PAGES]; /* enum ksm_res */
};

/* UNMERGE, UNMERGE_DONE, RELEASE, RELEASE_DONE */
struct ksm_msg_unmerge {
	struct ksm_msg_hdr hdr;
	uint32_t id;
	int32_t error; /* 0 or a positive errno: ENOMEM; EBUSY: pinned or sealed */
};

/* EPOCH, EPOCH_DONE */
struct ksm_msg_epoch {
	struct ksm_msg_hdr hdr;
	uint64_t epoch;
};

struct ksm_msg_stat {
	struct ksm_msg_hdr hdr;
	uint64_t id;
	uint32_t flags; /* KSM_STAT_* */
	uint32_t reserved;
};
#define KSM_STAT_HURRY 1u /* somebody waits for passes: make no longer pauses than need be */

struct ksm_msg_stat_reply {
	struct ksm_msg_hdr hdr;
	uint64_t id;
	uint64_t rmap_items, zero_pages, merging_pages;
	int64_t process_profit;
	uint64_t full_scans; /* passes of the whole daemon */
	/* The same without a fall to 0; those begun count the one that is under way. */
	uint64_t passes_begun, passes_done;
	uint32_t merging; /* 1: passes are made and what they find is merged */
	uint32_t reserved;
};

struct ksm_msg_info {
	struct ksm_msg_hdr hdr;
	uint32_t flags; /* KSM_INFO_* */
	uint32_t nr_vmas;
	uint64_t cpu_ns;   /* CPU time the agent has spent so far */
	uint64_t nameless; /* pages on frames that the program gave a name */
	uint64_t left_out[KSM_LEFT_CLIENT_NR];
};

struct ksm_msg_forks {
	struct ksm_msg_hdr hdr;
	uint32_t nr; /* copies of the process that were made since the last such message */
	uint32_t reserved;
};

/*
 * The client answers by a FORGET of each run that it gave back. What it cannot give back it keeps,
 * and says nothing.
 */
struct ksm_msg_give_back {
	struct ksm_msg_hdr hdr;
	uint64_t addr; /* block start: a multiple of KSM_ORDER_PAGES pages */
	uint64_t mask; /* bit n: page n of the block */
};

#define KSM_ERROR_TEXT 116u /* bytes, the NUL included */

struct ksm_msg_error {
	struct ksm_msg_hdr hdr;
	int32_t error; /* positive errno */
	char text[KSM_ERROR_TEXT];
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
	struct ksm_msg_forks forks;
	struct ksm_msg_give_back give_back;
	struct ksm_msg_error error;
};

/* Bytes of a message of this type; 0 when there is no such type. */
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
		[KSM_MSG_RELEASE] = sizeof(struct ksm_msg_unmerge),
		[KSM_MSG_RELEASE_DONE] = sizeof(struct ksm_msg_unmerge),
		[KSM_MSG_INFO] = sizeof(struct ksm_msg_info),
		[KSM_MSG_FORKS] = sizeof(struct ksm_msg_forks),
		[KSM_MSG_GIVE_BACK] = sizeof(struct ksm_msg_give_back),
		[KSM_MSG_ERROR] = sizeof(struct ksm_msg_error),
	};
	return type < KSM_MSG_NR ? size[type] : 0;
}

#endif
