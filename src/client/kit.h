/* SPDX-License-Identifier: MIT */
/* kit.h - what the agent works with: its descriptors, buffers and state; and what its tools do. */
#ifndef KSM_KIT_H
#define KSM_KIT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/wire.h"

/* Kinds of work that a program thread asks of the agent, one at a time. */
enum agent_req { REQ_NONE, REQ_UNSHARE, REQ_STAT };

#define OLD_SENTINELS 16
#define PAST_ARENAS 4u

struct agent {
	/* Shared with program threads. */
	_Atomic int32_t tid;                 /* 0: not running */
	_Atomic uint32_t poked;              /* a wake-up signal is under way */
	_Atomic uint32_t req_lock;           /* 0 free, 1 held, 2 waited for: serialises requests */
	_Atomic uint32_t req_kind;           /* enum agent_req; back to REQ_NONE when done */
	uint64_t req_start, req_end, req_nr; /* range; which STAT */
	int32_t req_result;
	struct ksm_msg_stat_reply req_stat;
	_Atomic uint32_t connected;
	_Atomic uint32_t heap_watch;
	_Atomic bool disabled;     /* a raw child, where threads cannot be made safely; a sandbox */
	_Atomic uint32_t deferred; /* start only when told to: ksmc_defer_agent() */
	void *stack;
	size_t stack_size;
	char sock_path[108]; /* of the daemon; set before the thread starts, empty: no such place */

	/* The agent's own. Descriptors are numbers in its private table, -1 when not open. */
	int32_t pid;
	uint32_t uid, euid; /* as which the connection was made; they choose the domain */
	int sock, sigfd, epfd;
	int uffd_async; /* WP_ASYNC: change tracking; every offered range is registered here */
	int uffd_sync;  /* MISSING and WP: makes threads wait during a transaction */
	bool event_fork;
	int arena, mem, pagemap;
	uint64_t arena_id, arena_ino, arena_pages;
	uint8_t *staging; /* KSM_ORDER_PAGES, registered in uffd_sync, MADV_DONTFORK; between
			   * transactions empty and PROT_NONE, see txn.c */
	uint8_t *buf; /* twice KSM_ORDER_PAGES: frames (and memory) are read here to be compared */
	void *sentinel; /* mapping of the newest epoch's sentinel */
	/* The one before, until the daemon has taken in all that was said while it was the newest; NULL: it
	 * has. When more epochs come meanwhile the oldest is enough, since epochs end in order. */
	void *prev_sentinel;
	uint64_t epoch_stat; /* id of the STAT that says so; 0: none */
	/* Of earlier connections and of the parent: dropped when all that this process has on frames
	 * has been adopted. Several, since they may be of different daemons or domains, and none of
	 * these knows the others' epochs. When there are too many the rest stays mapped for ever. */
	void *old_sentinel[OLD_SENTINELS];
	uint32_t nr_old;
	uint64_t adopt_stat; /* id of the STAT that says so; 0: none */
	/* Arenas of earlier connections: what is on their frames still when the daemon of this one has had
	 * time to merge it is given up, for one page keeps a whole arena. */
	uint64_t past_arena[PAST_ARENAS];
	uint32_t nr_past;
	uint64_t past_due_ms; /* when to look next; 0: there is no past */
	uint64_t past_stat;   /* id of the STAT that asks how many passes there were; 0: none */
	uint64_t past_at;     /* how far what is there has been given up */
	uint64_t past_scans;  /* full_scans by which it should have been merged; 0: not known */
	uint64_t sent_seq;
	uint64_t stat_id; /* of the newest STAT; an answer to one confirms all before it as well */
	uint64_t req_stat_id; /* of the one that answers a program thread */
	uint64_t stat_for;    /* the request (its req_nr) that the newest STAT was sent for */
	uint64_t info_due_ms, heap_end;
	bool info_sent_once;
	uint32_t heap_poll_ms;
};

extern struct agent agent;

/* Address of page i of an order. */
static inline uint64_t txn_page(const struct ksm_msg_order *m, unsigned int i)
{
	return m->addr + (uint64_t)i * KSM_PAGE_SIZE;
}

#define HOLD_MAX_PAGES 512u

/* txn.c: carry out an order. Fills result[]. Takes the lock. */
void txn_execute(struct agent *a, const struct ksm_msg_order *m, uint8_t result[KSM_ORDER_PAGES]);
/* unshare.c: see agent_unshare(). Takes the lock, in steps. Agent context. */
int unshare_range(struct agent *a, uint64_t start, uint64_t end);
/* The same, and pages that broke copy-on-write leave the mapping, too, unless they may be pinned. */
int unshare_mapping(struct agent *a, uint64_t start, uint64_t end);
/*
 * past.c: frames of earlier daemons. A connection to this arena begins; the time has come (false: the
 * connection is broken); an answer came.
 */
void past_begin(struct agent *a, uint64_t arena_ino, uint64_t now_ms);
bool past_ask(struct agent *a, uint64_t now_ms);
void past_answer(struct agent *a, const struct ksm_msg_stat_reply *m, uint64_t now_ms);

/*
 * inplace.c: the part of an order, pages [from, to), that lies in frame mappings already. result[] is
 * KSM_RES_GONE throughout on entry. Lock held.
 */
void inplace_execute(struct agent *a, const struct ksm_msg_order *m, unsigned int from,
		     unsigned int to, uint8_t *result);

/* hold.c; lock held. At most HOLD_MAX_PAGES pages at a time: 2 MiB, near a millisecond. */
struct kabi_page_region;
/* Writers wait from here on. 0 or -errno; hold_end() in either case. */
int hold_begin(struct agent *a, uint64_t start, uint64_t end);
/* Writers go on; the range is in no userfaultfd. */
void hold_end(struct agent *a, uint64_t start, uint64_t end);
/* Runs of private pages in v[HOLD_MAX_PAGES]; their number or -errno. */
long hold_private(struct agent *a, uint64_t start, uint64_t end, struct kabi_page_region *v);
/* Could a device be writing to memory of this process? Errs on the side of yes. */
bool hold_may_be_pinned(const struct agent *a);

/* heap.c: offer heap that was added since *known_end. Lock not held. Returns bytes added. */
uint64_t heap_poll(uint64_t *known_end);

/* uffd.c */
int uffd_open(struct agent *a, int dev);
int uffd_register(int uffd, uint64_t start, uint64_t end, uint64_t mode);
int uffd_unregister(int uffd, uint64_t start, uint64_t end);
/* Leave the synchronous one, whatever that takes, and wake who waits: else that would be for ever. */
void uffd_release(struct agent *a, uint64_t start, uint64_t end);
void uffd_wake(int uffd, uint64_t start, uint64_t end);
/* Track every offered part of [start, end). Lock held. */
void uffd_track(struct agent *a, uint64_t start, uint64_t end);
/*
 * Serve forks that happened during a transaction: the child inherited page tables in which the
 * pages of `moved` (bit per page from addr) were missing; give it copies from `staging`. Returns
 * when no fork is under way. Lock held.
 */
void uffd_serve_forks(struct agent *a, uint64_t addr, uint64_t moved, const uint8_t *staging);

#endif
