/* SPDX-License-Identifier: MIT */
/* release.h - a process that is to show no sign of merging, until it is told to come back. */
#ifndef KSM_RELEASE_H
#define KSM_RELEASE_H

#include "client/kit.h"
#include "client/sentinel.h"

/*
 * Make everything private, drop all sentinels, and close the userfaultfds. Returns 0; -ENOMEM (its
 * limits leave no room) or -EBUSY (some pages are pinned or sealed): then some pages still stand on
 * frames, or lie in mappings of them, and the sentinels and descriptors are as they were. Context:
 * the agent.
 */
int release_all(struct kit *k, struct sentinels *s);

/*
 * Sleep until somebody outside the process says that it is to come back (KSM_JOIN_VALUE), and serve
 * requests of program threads meanwhile. No descriptor is open. Returns true then, or false: the
 * agent is to end. Context: the agent, with nothing in hand.
 */
bool release_wait(struct link *l);

#endif
