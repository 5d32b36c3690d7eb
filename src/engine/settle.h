/* SPDX-License-Identifier: MIT */
/*
 * settle.h - the engine lock, and what happens before it is let go.
 *
 * engine_unlock() is the only way to let go of the lock, so no caller can forget to settle.
 */
#ifndef KSM_SETTLE_H
#define KSM_SETTLE_H

#include "engine/core.h"

void engine_lock(struct engine *e) TAKES(e->lock);
/* Does what follows for stable nodes from the pages that changed state, then lets go. */
void engine_unlock(struct engine *e) GIVES(e->lock);

#endif
