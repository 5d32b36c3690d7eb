/* SPDX-License-Identifier: MIT */
/* urgent.h - the agent is as urgent as the threads that wait for it. */
#ifndef KSM_URGENT_H
#define KSM_URGENT_H

#include <stdbool.h>

#include "client/kit.h"

/* The agent begins, or pages are in place again: it is an ordinary thread. Context: the agent. */
void urgent_rest(struct kit *k);
/*
 * Threads may have to wait for pages from here to urgent_rest(). False: real-time threads may, and
 * the kernel does not let the agent be as urgent. Context: the agent.
 */
bool urgent_begin(struct kit *k);

#endif
