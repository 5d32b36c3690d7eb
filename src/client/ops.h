/* SPDX-License-Identifier: MIT */
/* ops.h - see client.h: what the wrappers share with the rest of the library. */
#ifndef KSM_OPS_H
#define KSM_OPS_H

#include <stdbool.h>
#include <stdint.h>

#include "client/as.h"

static inline uint64_t page_up(uint64_t x)
{
	return (x + KSM_PAGE_SIZE - 1) & ~(uint64_t)(KSM_PAGE_SIZE - 1);
}

/* First call in the process: tables, fork handlers. Idempotent, thread-safe. Returns 0 or -ENOMEM. */
int ksmc_init(void);

/* Take the lock; in a raw child, start over first. */
void ops_enter(struct as_guard *g) TAKES(as.lock);
/* The same, when nothing in [start, end) is being withdrawn. */
void ops_enter_settled(struct as_guard *g, uint64_t start, uint64_t end) TAKES(as.lock);
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
