/* SPDX-License-Identifier: MIT */
/*
 * mm.h - regions: references, and the array of a client's live ones.
 *
 * mm_get() and mm_put() are in engine.h, because the daemon counts references on clients, too.
 * Where no lock is named any thread may call; region_put() may be the last and free the region
 * after a grace period, and its client with it.
 */
#ifndef KSM_MM_H
#define KSM_MM_H

#include "engine/core.h"

/* A region with one reference, which is the caller's. NULL for want of memory. */
struct region *region_new(struct mm_slot *mm, struct span at);
void region_get(struct region *r);
void region_put(struct region *r);

/* An array with room for nr regions, whose entries the caller fills in. NULL: no memory. */
struct region_array *array_new(struct engine *e, uint32_t nr);
/* Free an array that no reader can see, without the regions in it. a may be NULL. */
void array_free(struct engine *e, struct region_array *a);
/* Free an array that is published no more, once the last reader has left it. */
void array_retire(struct engine *e, struct region_array *a);
/* The same, and drop the references that it counts. */
void array_put_all(struct engine *e, struct region_array *a);

/* First region that ends after addr: its index, or a->nr. */
uint32_t region_index(const struct region_array *a, uint64_t addr);
/* First live region that ends after addr, with a reference, or NULL. Takes an RCU read section. */
struct region *region_next(struct mm_slot *mm, uint64_t addr);
/* The live region that holds addr, or NULL. No reference. */
struct region *region_at(const struct mm_slot *mm, uint64_t addr) NEEDS(mm->e->lock);

#endif
