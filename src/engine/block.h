/* SPDX-License-Identifier: MIT */
/* block.h - blocks of 64 pages: finding, making and queueing them. */
#ifndef KSM_BLOCK_H
#define KSM_BLOCK_H

#include "engine/core.h"

uint32_t block_find(const struct mm_slot *mm, uint32_t key); /* block or NIL */
/* Find or make. NIL for want of memory. The region must be one of mm. */
uint32_t block_get(struct mm_slot *mm, uint32_t key, struct region *region);
/* Free the block if nothing in it is tracked. */
void block_put(struct mm_slot *mm, uint32_t bi);
void table_shrink(struct mm_slot *mm);

void block_list_add(struct mm_slot *mm, uint32_t bi, enum block_list list);
void block_list_del(struct mm_slot *mm, uint32_t bi, int link);
/* All of PEND_NEXT becomes PEND_NOW (which is empty by then, or is joined). */
void block_list_next_pass(struct mm_slot *mm);

#endif
