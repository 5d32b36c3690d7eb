/* SPDX-License-Identifier: MIT */
/* across.h - the knobs merge_policy and merge_across_nodes: which nodes have a tree in common. */
#ifndef KSM_ACROSS_H
#define KSM_ACROSS_H

#include "engine/core.h"

/* Before the engine has anything: take the knobs over. */
void across_init(struct engine *e);
/* Take the knobs over: see across.c. */
void across_take(struct engine *e) NEEDS(e->lock);
/* Sort a part of what stands in trees of the groups before. True: there is more. */
bool across_step(struct engine *e) NEEDS(e->lock);

#endif
