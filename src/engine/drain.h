/* SPDX-License-Identifier: MIT */
/* drain.h - frames taken out of use; what the daemon calls of it is in engine.h. */
#ifndef KSM_DRAIN_H
#define KSM_DRAIN_H

#include "engine/core.h"

/* With the engine: what is under way is forgotten. */
void drain_free(struct engine *e);

#endif
