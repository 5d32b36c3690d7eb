/* SPDX-License-Identifier: MIT */
/* ops.h - what the wrappers of system calls share: the lock, and tables that follow. */
#ifndef KSM_OPS_H
#define KSM_OPS_H

#include <stdbool.h>
#include <stdint.h>

#include "client/as.h"

static inline uint64_t page_up(uint64_t x)
{
	return (x + KSM_PAGE_SIZE - 1) & ~(uint64_t)(KSM_PAGE_SIZE - 1);
}

/* In a forked child: the tables, then the agent start over. `raw`: see agent_reset_child(). */
void ops_start_over(bool raw);

/* Take the lock; in a raw child, start over first. */
void ops_enter(struct as_guard *g) TAKES(as.lock);
/*
 * Something changed: let the agent know, make sure there is one where something is offered. Returns 0, or
 * -ENOMEM: it cannot be started.
 */
int ops_leave(struct as_guard *g, bool offered) GIVES(as.lock);

/* All with the lock held. */

/* [start, end) is not what it was: nothing is known of it, and the daemon must forget it. */
void ops_forget(uint64_t start, uint64_t end) NEEDS(as.lock);
/* Where frames stood are zeros now. Returns 0, or -ENOMEM: from there on nothing was done. */
long ops_empty_frames(uint64_t start, uint64_t end) NEEDS(as.lock);

#endif
