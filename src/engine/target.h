/* SPDX-License-Identifier: MIT */
/* target.h - where what the mover has isolated goes to. */
#ifndef KSM_TARGET_H
#define KSM_TARGET_H

#include "engine/job.h"

/*
 * Node of the same contents that stands where it is to go to, and has room; or NIL. *room: that of
 * all such nodes.
 */
uint32_t target_find(struct engine *e, const struct migrate *j, const struct move *m,
		     uint64_t *room) NEEDS(e->lock);
/* May the frame be moved, or moved once more? */
bool target_is_left(const struct migrate *j, uint32_t frame);
/* m->copy is a new frame, which counts as one that gets its bytes; or m->no_memory. */
void target_take(struct engine *e, struct migrate *j, struct move *m) NEEDS(e->lock);
/*
 * [unlocked] Fill the new frames, and have the kernel move those that it is to. Each m->nid says
 * where that one has come to lie; failed[] which new frames have no contents.
 */
void target_fill(struct engine *e, struct migrate *j, bool failed[WINDOW]);
/* The new frame gets a node, unless it is no longer wanted, or does not lie where it was to. */
void target_adopt(struct engine *e, struct migrate *j, struct move *m, bool failed) NEEDS(e->lock);

#endif
