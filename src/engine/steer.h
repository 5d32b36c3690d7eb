/* SPDX-License-Identifier: MIT */
/* steer.h - frames go where merge_policy wants them; what the daemon calls of it is in engine.h. */
#ifndef KSM_STEER_H
#define KSM_STEER_H

#include "engine/core.h"

/* With the engine: a round that is under way is forgotten. */
void steer_free(struct engine *e);

#endif
