/* SPDX-License-Identifier: MIT */
/* as_queue.h - the queue of changes: what program threads did, and the daemon has yet to hear. */
#ifndef KSM_AS_QUEUE_H
#define KSM_AS_QUEUE_H

#include <stdint.h>

#include "client/as.h"

/*
 * Queue a change of [start, end) for the agent: KSM_MSG_ADD, _DEL, _FORGET or _ADOPT. The caller
 * wakes the agent with mailbox_poke() after it has given the lock back (ops_leave() does).
 */
void as_event(uint32_t type, uint64_t start, uint64_t end) NEEDS(as.lock);

#endif
