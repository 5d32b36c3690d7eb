/* SPDX-License-Identifier: MIT */
/* block.h - blocks of 64 pages: the table that finds one, and the lists that they wait in. */
#ifndef KSM_BLOCK_H
#define KSM_BLOCK_H

#include "engine/core.h"

/* Index of the block, or NIL. */
uint32_t block_find(const struct mm_slot *mm, uint32_t key) NEEDS(mm->e->lock);
/* The smallest key that is not below `from`; UINT32_MAX if there is none. Looks at all. */
uint32_t block_first_key(const struct mm_slot *mm, uint32_t from) NEEDS(mm->e->lock);
/* Find or make. NIL for want of memory. The region must be one of mm. */
uint32_t block_get(struct mm_slot *mm, uint32_t key, struct region *region) NEEDS(mm->e->lock);
/* `to`, a copy, takes the place of a block in its client's table and lists, and has its order. */
void block_replace(struct engine *e, uint32_t bi, uint32_t to) NEEDS(e->lock);
/* Free the block if nothing in it is tracked. */
void block_put(struct mm_slot *mm, uint32_t bi) NEEDS(mm->e->lock);
/* Give memory back when most of the table is empty. Failing to does no harm. */
void block_shrink_table(struct mm_slot *mm) NEEDS(mm->e->lock);

/* Add at the end; the block leaves the list of the same link that it is on. */
void block_list_add(struct mm_slot *mm, uint32_t bi, enum block_list list) NEEDS(mm->e->lock);
void block_list_del(struct mm_slot *mm, uint32_t bi, int link) NEEDS(mm->e->lock);
/* All of PEND_NEXT becomes PEND_NOW; what the last pass left in PEND_NOW comes first. */
void block_list_next_pass(struct mm_slot *mm) NEEDS(mm->e->lock);

/* The list that PEND_NOW or PEND_NEXT means at present. */
static inline enum block_list block_pend_list(const struct mm_slot *mm, enum block_list list)
{
	return list ^ mm->pend_flip;
}

#endif
