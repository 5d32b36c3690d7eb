/* SPDX-License-Identifier: MIT */
/*
 * agent.h - the thread that speaks with the daemon and replaces pages.
 *
 * It lives inside the client so that everything happens with the client's own rights, and so that
 * a daemon that is killed or stopped in the middle of anything leaves no page missing: an order is
 * one message, and once it is read the agent finishes it alone.
 *
 * The agent has a descriptor table of its own (CLOSE_RANGE_UNSHARE): programs that close all
 * descriptors do not take ours away, never see ours, and do not hand them to children. It never
 * uses malloc, stdio or errno-based calls once it serves; its buffers and stack are private
 * mappings that are never offered, because it must not touch memory that it made missing itself.
 *
 * Its state has four lifetimes, each a struct of its own: what a forked child keeps (heritage.h),
 * the thread's descriptors and buffers (kit.h), one connection (link.h), and what program threads
 * share with it (mailbox.h).
 */
#ifndef KSM_AGENT_H
#define KSM_AGENT_H

#include <stdbool.h>
#include <stdint.h>

#include "client/as.h"
#include "client/heritage.h"
#include "client/kit.h"
#include "client/mailbox.h"
#include "client/link.h"

/* The agent's thread touches all of it; what program threads touch is said in heritage.h. */
struct agent {
	struct heritage heritage;
	struct kit kit;
	struct link link;
};

extern struct agent agent;

/* See connect_find_daemon(). */
void agent_find_daemon(const char *dir);
/* Is this the address of what the agent's thread runs? */
bool agent_is_main(uintptr_t thread);
/* See ksmc_defer_agent(). */
void agent_defer(void);
/* See ksmc_mind_first_thread(). */
void agent_mind_first_thread(void);
/*
 * Start the thread if it is not running. `told`: by ksmc_start_agent(). Returns 0, -EAGAIN (it is
 * not running, and deferred, or there is no daemon for one that is), -ENOSYS (there cannot be one),
 * or -ENOMEM. Context: the lock of as.h is not held.
 */
int agent_start(bool told);
/*
 * End the thread if it runs, and wait until the kernel counts it no more. Returns whether it ran
 * and has ended; agent_start() starts it again. Context: a program thread, no lock held.
 */
bool agent_end(void);
/* What the agent touches while pages are missing, in whole pages. Returns how many areas. */
#define AGENT_OWN 5
int agent_own(struct span v[AGENT_OWN]) NEEDS(as.lock);
/* Have as.h know nothing of what the agent touches while pages are missing. */
void agent_clear_own(void) NEEDS(as.lock);
/*
 * In a forked child: there is no agent any more. `raw`: the C library was not told of the fork, so
 * no thread can be made; such a child is no client by itself, and keeps what it shares. Context:
 * the child's only thread.
 */
void agent_reset_child(bool raw);
/*
 * Make every page of [start, end) that stands on a frame private again; returns 0 or -ENOMEM.
 * Context: a program thread, between mailbox_begin() and mailbox_end().
 */
int agent_unshare(uint64_t start, uint64_t end) NEEDS(mailbox.lock);

/* Is this not a child that shares the memory, or does not know yet that it is one? */
bool agent_is_here(void);
/* The main heap: heap_offer(), heap_is_offered(), heap_shrunk(). */
void agent_offer_heap(uint64_t end);
bool agent_offers_heap(void);
void agent_heap_shrunk(uint64_t end) NEEDS(as.lock);

#endif
