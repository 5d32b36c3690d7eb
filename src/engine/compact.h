/* SPDX-License-Identifier: MIT */
/* compact.h - pageblocks emptied into others; what the daemon calls of it is in engine.h. */
#ifndef KSM_COMPACT_H
#define KSM_COMPACT_H

#include "engine/core.h"

/* With the engine: what is under way is forgotten. */
void compact_free(struct engine *e);

#endif
