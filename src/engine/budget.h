/* SPDX-License-Identifier: MIT */
/* budget.h - which pages may cost their client a mapping. */
#ifndef KSM_BUDGET_H
#define KSM_BUDGET_H

#include "engine/core.h"

uint64_t budget_limit(const struct mm_slot *mm);
uint64_t budget_used(const struct mm_slot *mm);
int budget_level(const struct mm_slot *mm);
bool budget_may_wait(const struct mm_slot *mm);
uint64_t budget_fit(struct mm_slot *mm, uint32_t bi, uint64_t left, uint32_t *reserved);
/* After the pages of a block were looked up: give up what the budget does not allow. */
void budget_refuse_early(struct scan_worker *w, struct engine *e, uint32_t bi);
void budget_requeue(struct mm_slot *mm); /* a new pass of this client begins */

#endif
