/* SPDX-License-Identifier: MIT */
/* across.h - one set of trees for all nodes, or one for each. */
#ifndef KSM_ACROSS_H
#define KSM_ACROSS_H

#include "engine/core.h"

/* Lock held: take the knob merge_across_nodes over, if no stable node stands in the way. */
void across_take(struct engine *e);

#endif
