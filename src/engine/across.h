/* SPDX-License-Identifier: MIT */
/* across.h - the knob merge_across_nodes: one set of trees for all nodes, or one for each. */
#ifndef KSM_ACROSS_H
#define KSM_ACROSS_H

#include "engine/core.h"

/* Take the knob over, unless a stable node is live: see across.c. */
void across_take(struct engine *e) NEEDS(e->lock);

#endif
