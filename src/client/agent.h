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
