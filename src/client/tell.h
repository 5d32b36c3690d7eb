/* SPDX-License-Identifier: MIT */
/*
 * tell.h - what the agent says to the daemon: what is offered, what stands on frames, facts.
 *
 * Every function that returns bool returns false where the connection is broken. All may sleep
 * until the socket has room, and serve program threads meanwhile. The lock of as.h is not held.
 */
#ifndef KSM_TELL_H
#define KSM_TELL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/link.h"

/* Send one message as it is. */
bool tell_message(struct link *l, const void *m, size_t len);
/* Send the next STAT; *id becomes its number. */
bool tell_stat(struct link *l, uint64_t *id);
/* Everything that is offered, and what stands on frames of this arena. First after READY. */
bool tell_all(struct link *l);
/* Empty the queue of as.h. False also when events were lost: then tell_all() has to come again. */
bool tell_events(struct link *l);
/* Facts about this process, and drop what the kit's buffers hold: orders have ceased to come. */
bool tell_info(struct link *l);
/*
 * Send FORKS when that is due: a second after the first copy of this process that the daemon does
 * not know of. False: the connection is broken. tell_forks_drop(): what happened before the
 * connection is nobody's business.
 */
bool tell_forks(struct link *l);
void tell_forks_drop(void);
/* Frames stay because there is no room to give them up, or do so no more: INFO says so. */
void tell_short(struct link *l, bool is);
/* Have info_due_ms say so once nothing has happened for a while. */
void tell_info_later(struct link *l);

#endif
