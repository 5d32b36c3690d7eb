/* SPDX-License-Identifier: MIT */
/* record.h - records of pages and frames follow them to another NUMA node. */
#ifndef KSM_RECORD_H
#define KSM_RECORD_H

#include "engine/core.h"

/*
 * Both copy a record into the place where it is to lie, if it does not lie there, may leave, and
 * there is memory, and free the old one. They return where it is then, which may be where it was.
 * Pointers to it and its old index are void.
 */

/* A block, to the node on which most threads of its client run, if that is known. */
uint32_t record_follow_block(struct engine *e, uint32_t bi) NEEDS(e->lock);
/* A stable node, to the NUMA node that it counts for. */
uint32_t record_follow_node(struct engine *e, uint32_t node) NEEDS(e->lock);

#endif
