/* SPDX-License-Identifier: MIT */
/* leaving.h - threads that are about to end, and what the kernel writes for them then. */
#ifndef KSM_LEAVING_H
#define KSM_LEAVING_H

#include <stdbool.h>
#include <stdint.h>

#include "client/as.h"

/* The calling thread is about to end. False: there is no room to note that. */
bool leaving_add(void) NEEDS(as.lock);
/* A thread has begun, perhaps with the number of one that has ended. */
void leaving_drop_self(void) NEEDS(as.lock);
/* The agent takes the lock. False: a thread has been about to end for `wait_ms` by then. */
bool leaving_lock(unsigned int wait_ms) TAKES(as.lock);

#endif
