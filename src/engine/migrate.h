/* SPDX-License-Identifier: MIT */
/* migrate.h - the mover; what the daemon calls of it is in engine.h. */
#ifndef KSM_MIGRATE_H
#define KSM_MIGRATE_H

#include "engine/core.h"

/* With the engine: jobs that are under way are forgotten. */
void migrate_free(struct engine *e);

#endif
