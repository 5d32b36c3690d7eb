/* SPDX-License-Identifier: MIT */
/* mm.h - references to clients and regions, and the array of a client's regions. */
#ifndef KSM_MM_H
#define KSM_MM_H

#include "engine/core.h"

struct region *region_new(struct mm_slot *mm, uint64_t start, uint64_t end);
struct region_array *array_new(struct engine *e, uint32_t nr);
void array_retire(struct engine *e, struct region_array *a);
struct region_array *region_array_empty(struct engine *e);
void region_array_free(struct engine *e, struct region_array *a);
void region_array_put_all(struct engine *e, struct region_array *a); /* lock held */
void region_get(struct region *r);
void region_put(struct region *r);
/* First region that ends after addr: its index, or a->nr. */
uint32_t region_index(const struct region_array *a, uint64_t addr);
/* First live region that ends after addr, with a reference, or NULL. Takes an RCU read section. */
struct region *region_next(struct mm_slot *mm, uint64_t addr);
/* Lock held: the live region that holds addr, or NULL. No reference. */
struct region *region_at(const struct mm_slot *mm, uint64_t addr);

#endif
