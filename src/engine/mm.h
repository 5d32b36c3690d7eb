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

/* An array without regions. NULL: no memory. */
struct region_array *array_new(struct engine *e);
/* Free such an array that no reader can see. a may be NULL. */
void array_free(struct engine *e, struct region_array *a);
/* Retire an array that is published no more, its leaves, and the references that they count. */
void array_put_all(struct engine *e, struct region_array *a);

/* What array_replace() has made of an array. */
struct region_change {
	struct region_array *to;
	uint32_t first, end; /* leaves of the old array that the new one does not share */
};
/*
 * Make an array with v[0..nr), nr <= 2, in the place of what stands in [from, to) of `a`, whose
 * references the caller drops after it has published the new one. Costs what the square root of the
 * number of regions costs, not all of them. False: no memory.
 */
bool array_replace(struct engine *e, const struct region_array *a, struct region_pos from,
		   struct region_pos to, struct region **v, uint32_t nr, struct region_change *c);
/* The change is published: free what is left of the old array once the last reader has left it. */
void array_retire(struct engine *e, struct region_array *a, const struct region_change *c);

/* First region that ends after addr. */
struct region_pos region_find(const struct region_array *a, uint64_t addr);
/* The region there; NULL after the last. */
static inline struct region *region_on(const struct region_array *a, struct region_pos p)
{
	return p.leaf < a->nr_leaves ? a->leaf[p.leaf]->r[p.at] : NULL;
}
/* The place after p, where a region is. */
static inline struct region_pos region_after(const struct region_array *a, struct region_pos p)
{
	return p.at + 1 < a->leaf[p.leaf]->nr ? (struct region_pos){ p.leaf, p.at + 1 } :
						(struct region_pos){ p.leaf + 1, 0 };
}
/* First live region that ends after addr, with a reference, or NULL. Takes an RCU read section. */
struct region *region_next(struct mm_slot *mm, uint64_t addr);
/* The live region that holds addr, or NULL. No reference. */
struct region *region_at(const struct mm_slot *mm, uint64_t addr) NEEDS(mm->e->lock);

#endif
