/* SPDX-License-Identifier: MIT */
/* migrate.h - the mover; what the daemon calls of it is in engine.h. */
#ifndef KSM_MIGRATE_H
#define KSM_MIGRATE_H

#include "engine/core.h"
#include "engine/source.h"

/*
 * Begin a job, which engine_migrate_step() carries on. 0, -EALREADY (there is one of this number)
 * or -ENOMEM. A client may go while its job is under way.
 */
int migrate_begin(struct engine *e, int job, const struct source *s) NEEDS(e->lock);
/* As engine_migrate_step(), for whoever began the job with migrate_begin(). */
enum engine_migrate migrate_step(struct engine *e, int job, uint64_t now_ms,
				 struct engine_migrated *out);
/* With the engine: jobs that are under way are forgotten. */
void migrate_free(struct engine *e);

#endif
