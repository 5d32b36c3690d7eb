/* SPDX-License-Identifier: MIT */
/* dense.h - where pages of a client are tracked: every one, some, or none. */
#ifndef KSM_DENSE_H
#define KSM_DENSE_H

#include "engine/core.h"

/* Bring the client's map up to date if what is tracked has changed. Only its scanning worker. */
void dense_update(struct mm_slot *mm) NEEDS(mm->e->lock);
/*
 * Is the stretch at at->start dense? Cuts at->end back to where that changes. Only the worker that
 * scans the client, with or without the lock.
 */
bool dense_stretch(const struct mm_slot *mm, struct span *at);
/*
 * Where the bare range at `addr` ends, in which no page was tracked when the map was made: `addr`
 * itself if it is not bare. Who may ask: as for dense_stretch().
 */
uint64_t dense_bare_until(const struct mm_slot *mm, uint64_t addr);

#endif
