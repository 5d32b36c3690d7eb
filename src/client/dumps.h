/* SPDX-License-Identifier: MIT */
/* dumps.h - a core dump has merged memory exactly when it would have had it unmerged. */
#ifndef KSM_DUMPS_H
#define KSM_DUMPS_H

#include "client/as.h"

/*
 * Look which memory core dumps of this process have, and if that has changed advise what stands on
 * frames accordingly. Context: the agent, without the lock.
 */
void dumps_look(void);

#endif
