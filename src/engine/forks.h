/* SPDX-License-Identifier: MIT */
/* forks.h - how many mappings merging may add to a client that forks. */
#ifndef KSM_FORKS_H
#define KSM_FORKS_H

#include "engine/core.h"

/* The client has forked so often since it said so last. */
void forks_count(struct mm_slot *mm, uint32_t nr) NEEDS(mm->e->lock);
/* A pass comes to the client, or something has changed: what it may have follows. */
void forks_update(struct mm_slot *mm) NEEDS(mm->e->lock);
/* Most mappings that merging may add because of forks; UINT64_MAX: as many as otherwise. */
uint64_t forks_limit(const struct mm_slot *mm) NEEDS(mm->e->lock);

#endif
