/* SPDX-License-Identifier: MIT */
/* as_life.h - the tables of as.h from the first use of the library to a fork. */
#ifndef KSM_AS_LIFE_H
#define KSM_AS_LIFE_H

#include "client/as.h"

/* First use of the library, and again in a forked child (keeps ranges and frame bits). Returns 0
 * or -ENOMEM. Context: no other thread uses `as` yet. */
int as_init(void);
/* In a forked child: forget the lock, the queue, the agent. Context: single thread so far. */
void as_reset_child(void);
/* Nothing is known of the library's own tables, whatever ranges a program names. Lock held. */
void as_clear_own(void) NEEDS(as.lock);

#endif
