/* SPDX-License-Identifier: MIT */
/* dense.h - where every page of a client is tracked. */
#ifndef KSM_DENSE_H
#define KSM_DENSE_H

#include "engine/core.h"

void dense_update(struct mm_slot *mm); /* lock held */
/* Is the stretch at *start dense? Cuts *end (> start) back to where that changes. No lock. */
bool dense_stretch(const struct mm_slot *mm, uint64_t start, uint64_t *end);

#endif
