/* SPDX-License-Identifier: MIT */
/* as_queue.h - the queue of changes that the daemon has to be told of. */
#ifndef KSM_AS_QUEUE_H
#define KSM_AS_QUEUE_H

#include <stdint.h>

#include "client/as.h"

/* Tell the agent. Lock held; call mailbox_poke() after releasing it. */
void as_event(uint32_t type, uint64_t start, uint64_t end) NEEDS(as.lock);

#endif
