/* SPDX-License-Identifier: MIT */
/* settle.h - the engine lock, and what is done before it is let go. */
#ifndef KSM_SETTLE_H
#define KSM_SETTLE_H

#include "engine/core.h"

void engine_lock(struct engine *e);
/* Does what follows for stable nodes from the page states that changed, then lets go. */
void engine_unlock(struct engine *e);

#endif
