/* SPDX-License-Identifier: MIT */
/* migrate.h - the mover; what the daemon calls of it is in engine.h. */
#ifndef KSM_MIGRATE_H
#define KSM_MIGRATE_H

#include "engine/core.h"
#include "engine/relocation.h"

/* What of a zone is to be emptied, and where to. */
struct migrate_range {
	int from, to;        /* nodes; equal: elsewhere in the same zone, of which the range */
	uint32_t first, end; /* [first, end) must be isolated then */
	/*
	 * NULL, or the frames of the range that move, each with the new frame that was taken for
	 * it. It outlives the job, which leaves POOL_NONE where it used a frame; what is left is
	 * the caller's. No page is then moved to a frame that is there already.
	 */
	struct relocation *way;
};

/*
 * Begin a job, which engine_migrate_step() carries on. 0, -EALREADY (the node has one) or -ENOMEM.
 */
int migrate_begin(struct engine *e, const struct migrate_range *r) NEEDS(e->lock);
/* As engine_migrate_step(), for whoever began the job with migrate_begin(). */
enum engine_migrate migrate_step(struct engine *e, int from, uint64_t now_ms,
				 struct engine_migrated *out);
/* With the engine: jobs that are under way are forgotten. */
void migrate_free(struct engine *e);

#endif
