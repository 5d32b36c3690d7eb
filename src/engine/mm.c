/* SPDX-License-Identifier: MIT */
/*
 * mm.c - references to clients, and which memory a client offers.
 *
 * The live regions of a client are an immutable sorted array behind an RCU pointer. A change makes
 * a new array under the engine lock and lets a grace period free the old one. So a scanning worker
 * reads the array without the lock, takes a reference on a region and works with that, while the
 * client withdraws the region or exits: the object lives until the last holder lets go (as an
 * anon_vma does). Region objects never change their bounds: joining and splitting make new ones.
 */
#include <assert.h>
#include <stdlib.h>

#include "engine/mm.h"

void mm_get(struct mm_slot *mm)
{
	urcu_ref_get(&mm->ref);
}

static void mm_free_rcu(struct rcu_head *h)
{
	struct mm_slot *mm = caa_container_of(h, struct mm_slot, rcu);
	struct engine *e = mm->e;
	void *client = mm->client;

	array_free(e, mm->regions);
	count_bytes(e, -(int64_t)sizeof(*mm));
	free(mm->dense.run);
	free(mm);
	e->ops->client_release(client);
	__atomic_fetch_sub(&e->nr_mms, 1, __ATOMIC_RELEASE);
}

static void mm_release(struct urcu_ref *ref)
{
	struct mm_slot *mm = caa_container_of(ref, struct mm_slot, ref);

	assert(mm->dead);
	call_rcu(&mm->rcu, mm_free_rcu);
}

void mm_put(struct mm_slot *mm)
{
	urcu_ref_put(&mm->ref, mm_release);
}

/* --- regions --- */

struct region *region_new(struct mm_slot *mm, struct span at)
{
	struct region *r = malloc(sizeof(*r));

	if (!r)
		return NULL;
	urcu_ref_init(&r->ref);
	mm_get(mm);
	r->mm = mm;
	r->at = at;
	count_bytes(mm->e, sizeof(*r));
	return r;
}

void region_get(struct region *r)
{
	urcu_ref_get(&r->ref);
}

static void region_free_rcu(struct rcu_head *h)
{
	struct region *r = caa_container_of(h, struct region, rcu);

	mm_put(r->mm);
	free(r);
}

static void region_release(struct urcu_ref *ref)
{
	struct region *r = caa_container_of(ref, struct region, ref);

	count_bytes(r->mm->e, -(int64_t)sizeof(*r));
	/* A reader of the old array may be looking at it, and fails to get a reference. */
	call_rcu(&r->rcu, region_free_rcu);
}

void region_put(struct region *r)
{
	urcu_ref_put(&r->ref, region_release);
}

/* --- the array --- */

static size_t array_bytes(uint32_t nr)
{
	return sizeof(struct region_array) + nr * sizeof(struct region *);
}

struct region_array *array_new(struct engine *e, uint32_t nr)
{
	struct region_array *a = malloc(array_bytes(nr));

	if (!a)
		return NULL;
	a->nr = nr;
	count_bytes(e, (int64_t)array_bytes(nr));
	return a;
}

void array_free(struct engine *e, struct region_array *a)
{
	if (a)
		count_bytes(e, -(int64_t)array_bytes(a->nr));
	free(a);
}

static void array_free_rcu(struct rcu_head *h)
{
	free(caa_container_of(h, struct region_array, rcu));
}

void array_retire(struct engine *e, struct region_array *a)
{
	count_bytes(e, -(int64_t)array_bytes(a->nr));
	call_rcu(&a->rcu, array_free_rcu);
}

void array_put_all(struct engine *e, struct region_array *a)
{
	for (uint32_t i = 0; i < a->nr; i++)
		region_put(a->r[i]);
	array_retire(e, a);
}

uint32_t region_index(const struct region_array *a, uint64_t addr)
{
	uint32_t lo = 0, hi = a->nr;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (a->r[mid]->at.end > addr)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

struct region *region_next(struct mm_slot *mm, uint64_t addr)
{
	struct region *r = NULL;
	struct region_array *a;

	rcu_read_lock();
	a = rcu_dereference(mm->regions);
	for (uint32_t i = region_index(a, addr); i < a->nr; i++)
		if (urcu_ref_get_unless_zero(&a->r[i]->ref)) {
			r = a->r[i];
			break;
		}
	rcu_read_unlock();
	return r;
}

struct region *region_at(const struct mm_slot *mm, uint64_t addr)
{
	const struct region_array *a = mm->regions;
	uint32_t i = region_index(a, addr);

	return i < a->nr && a->r[i]->at.start <= addr ? a->r[i] : NULL;
}
