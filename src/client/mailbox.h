/* SPDX-License-Identifier: MIT */
/*
 * mailbox.h - what program threads and the agent's thread share: the way to wake the agent, and
 * one request at a time.
 *
 * A program thread calls mailbox_begin(), a request, mailbox_end(). The agent sees the request
 * when it next waits (wait.c), which it also does while it waits to send: a daemon that is stopped
 * delays no program thread.
 */
#ifndef KSM_MAILBOX_H
#define KSM_MAILBOX_H

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/guard.h"
#include "base/span.h"
#include "wire/wire.h"

/* What wakes the agent; see mailbox.c. */
#define MAILBOX_SIGNAL SIGSTKFLT

/* Kinds of work that a program thread asks of the agent. */
enum request { REQ_NONE, REQ_UNSHARE, REQ_STAT, REQ_PASSES };

/*
 * The agent's first try to connect: it may take its time, a program thread waits for it, it is over
 * (connected or not).
 */
enum first_try { TRY_LATER, TRY_AT_ONCE, TRY_OVER };

/* A futex: 0 free, 1 held, 2 held and waited for. Unlike a mutex it needs no C library. */
struct LOCK_TYPE("mailbox") mailbox_lock {
	_Atomic uint32_t word;
};

/*
 * Invariant: kind is REQ_NONE unless a program thread waits for that request, and that thread
 * holds the lock. A forked child assigns the whole of it: it has neither the agent nor the
 * threads.
 *
 * lock covers late_ms, and range and nr, which are written before kind is. The agent reads these
 * two while kind is set; it writes result and stat, and then kind. Every other field is atomic on
 * its own, except pid, which is written before tid leaves 0.
 */
struct mailbox {
	struct mailbox_lock lock;
	_Atomic uint32_t kind; /* enum request; back to REQ_NONE when done */
	struct span range;     /* of REQ_UNSHARE */
	uint64_t nr;           /* counts requests of kinds REQ_STAT and REQ_PASSES */
	int32_t result;        /* 0 or -errno */
	struct ksm_msg_stat_reply stat;
	uint64_t late_ms; /* the daemon did not answer in time; until then nobody waits again */

	int32_t pid;                /* of the process in which tid runs */
	_Atomic int32_t tid;        /* the agent's thread; 0: it does not run, -1: it starts */
	_Atomic int32_t last_tid;   /* the newest agent's thread, also when it has ended */
	_Atomic uint32_t poked;     /* a wake-up signal is under way */
	_Atomic uint32_t connected; /* everything was declared, and the agent serves */
	_Atomic uint32_t first_try; /* enum first_try, a futex */
	_Atomic uint32_t
		refused;       /* errno of the last try to connect that was turned down; 0: none */
	_Atomic bool disabled; /* no agent ever: a raw child, a sandbox */
	_Atomic bool ending;   /* the agent ends as soon as it has nothing in hand: agent_end() */
};

extern struct mailbox mailbox;

/* Wake the agent: there is something to do. Context: any thread, any lock held. */
void mailbox_poke(void);
/*
 * The program asks for merging in so many words: the agent is to connect without delay. Waits until
 * it has tried, at most FIRST_TRY_MS; once it has, never again. Context: no lock held.
 */
void mailbox_hasten(void);
static inline bool mailbox_connected(void)
{
	return atomic_load(&mailbox.connected);
}

/* Signals are blocked from begin to end; *sigmask keeps the mask meanwhile. */
void mailbox_begin(uint64_t *sigmask) TAKES(mailbox.lock);
void mailbox_end(const uint64_t *sigmask) GIVES(mailbox.lock);
/*
 * Have the agent make every page of [start, end) private that stands on a frame. Waits for it.
 * Returns 0, -ENOMEM (some still stand on frames), or -ENOSYS: there is no agent, or it ends.
 */
int mailbox_unshare(uint64_t start, uint64_t end) NEEDS(mailbox.lock);
/* Ask the daemon. Waits at most 2 s. Returns 0, -ENOTCONN, -ETIMEDOUT, or -ENOSYS as above. */
int mailbox_stat(struct ksm_msg_stat_reply *out) NEEDS(mailbox.lock);
/*
 * The same once the daemon has heard of everything that was offered before, and it is to make no
 * long pauses now. Waits at most timeout_ms.
 */
int mailbox_passes(struct ksm_msg_stat_reply *out, int timeout_ms) NEEDS(mailbox.lock);

/*
 * Wait until the daemon has heard of every change so far, 0.2 s at most: then its counters show
 * them. One that took longer is not waited for in the second that follows.
 */
void mailbox_heard(void) NEEDS(mailbox.lock);

/* The agent's side. */

/* What a program thread waits for. */
static inline enum request mailbox_kind(void)
{
	return (enum request)atomic_load_explicit(&mailbox.kind, memory_order_acquire);
}
/* The request of this kind is done, and mailbox.result and .stat say how: let its thread go on. */
void mailbox_finish(enum request kind);
/* The agent has connected, or could not. */
void mailbox_tried(void);
/* The agent ends (mailbox.ending is set): threads that wait for it go on without. */
void mailbox_agent_goes(void);
/* Is the agent to end? Everything that it waits for ends then, too. */
static inline bool mailbox_ending(void)
{
	return atomic_load_explicit(&mailbox.ending, memory_order_relaxed);
}
/* There will be no agent: threads that wait for it go on without. */
void mailbox_disable(void);

#endif
