/* SPDX-License-Identifier: MIT */
/* budget.h - which pages may cost their client a mapping. */
#ifndef KSM_BUDGET_H
#define KSM_BUDGET_H

#include "engine/core.h"

/* Most mappings that the client may have with merging. */
uint64_t budget_limit(const struct mm_slot *mm) NEEDS(mm->e->lock);
/* Is that fewer than otherwise, because the client forks often (forks.h)? */
bool budget_is_for_forks(const struct mm_slot *mm) NEEDS(mm->e->lock);
/* That may have changed: for which of the two its pages are left out that have no mapping. */
void budget_tell_forks(struct mm_slot *mm) NEEDS(mm->e->lock);
/* Mappings of the process, those that orders under way may add included. */
uint64_t budget_used(const struct mm_slot *mm) NEEDS(mm->e->lock);
/* How scarce mappings are, from 0 (plenty) to 4 (none left). */
int budget_level(const struct mm_slot *mm) NEEDS(mm->e->lock);
/* May pages that need a mapping each wait until the pass is over? */
bool budget_may_wait(const struct mm_slot *mm) NEEDS(mm->e->lock);
/*
 * Which of these ready pages fit into the budget; the others become VOLATILE and count as left out.
 * Returns those that fit; mm->vmas_reserved has grown by *reserved. *inlay: pages of the block that
 * the client is to inlay behind them.
 */
uint64_t budget_fit(struct mm_slot *mm, uint32_t bi, uint64_t ready, uint32_t *reserved,
		    uint64_t *inlay) NEEDS(mm->e->lock);
/* The client can inlay nothing: it is not asked to for a while. Returns whether that is new. */
bool budget_no_inlays(struct mm_slot *mm) NEEDS(mm->e->lock);
/*
 * After a worker looked up the pages of a block: refuse those that the budget does not allow.
 * False: nothing was refused, because there is room.
 */
bool budget_refuse(struct mm_slot *mm, uint32_t bi) NEEDS(mm->e->lock);
/*
 * Before orders go out: say which single pages get mappings, if there is not room for all.
 */
void budget_choose(struct mm_slot *mm) NEEDS(mm->e->lock);
/* A new pass of this client begins: what was refused is looked up again when there is room. */
void budget_requeue(struct mm_slot *mm) NEEDS(mm->e->lock);

#endif
