/* SPDX-License-Identifier: MIT */
/*
 * agent.h - the thread that speaks with the daemon and replaces pages.
 *
 * It lives inside the client so that everything happens with the client's own rights, and so that a
 * daemon that is killed or stopped in the middle of anything leaves no page missing: an order is
 * one message, and once it is read the agent finishes it alone.
 *
 * The agent has a descriptor table of its own (CLOSE_RANGE_UNSHARE): programs that close all
 * descriptors do not take ours away, never see ours, and do not hand them to children. It never
 * uses malloc, stdio or errno-based calls once it serves; its buffers and stack are private
 * mappings that are never offered, because it must not touch memory that it made missing itself.
 */
#ifndef KSM_AGENT_H
#define KSM_AGENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/kit.h"
#include "wire/wire.h"

/* Kinds of work that a program thread asks of the agent, one at a time. */
enum agent_req { REQ_NONE, REQ_UNSHARE, REQ_STAT };

#define OLD_SENTINELS 16
#define PAST_ARENAS 4u

struct agent {
	struct kit kit;
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
	int sock;
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
	uint32_t heap_poll_ms;
};

extern struct agent agent;

/*
 * Settle where the daemon is, by `dir` or the environment, unless that was done. Early: a program may
 * wipe its environment (nginx) or take another identity before the daemon appears.
 */
void agent_find_daemon(const char *dir);
/*
 * Start the thread if it is not running. Call without the lock. `told`: by ksmc_start_agent().
 * Returns 0 or -errno (-EAGAIN: it is not running, and deferred).
 */
int agent_start(bool told);
/* Nothing is known (as.h) of what the agent touches while pages are missing. Lock held. */
void agent_clear_own(void);
/* Wake it: there is something in the queue. Callable from anywhere. */
void agent_poke(void);
/*
 * In a forked child: there is no agent any more. `raw`: the C library was not told of the fork, so
 * no thread can be made; such a child is no client by itself, and keeps what it shares.
 */
void agent_reset_child(bool raw);

/*
 * Requests from program threads; signals are blocked from begin to end. agent_unshare() makes
 * every page of the range that stands on a frame private again; returns 0 or -ENOMEM.
 */
void agent_request_begin(uint64_t *sigmask);
void agent_request_end(const uint64_t *sigmask);
int agent_unshare(uint64_t start, uint64_t end);
int agent_stat(struct ksm_msg_stat_reply *out); /* 0, -ENOTCONN, -ETIMEDOUT */

#endif
