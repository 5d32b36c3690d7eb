/* SPDX-License-Identifier: MIT */
/*
 * region.c - which memory a client offers.
 *
 * The live regions of a client are an immutable sorted array behind an RCU pointer. A change makes
 * a new array under the engine lock and lets a grace period free the old one, so the scan thread
 * reads it without the lock, takes a reference on a region and works with that, while the region
 * may be withdrawn or its client exit: the object lives until the last holder lets go (as an
 * anon_vma does). Region objects never change their bounds: coalescing and splitting make new ones.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine_internal.h"

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

static struct region *region_new(struct mm_slot *mm, uint64_t start, uint64_t end)
{
	struct region *r = malloc(sizeof(*r));

	if (!r)
		return NULL;
	urcu_ref_init(&r->ref);
	mm_get(mm);
	r->mm = mm;
	r->start = start;
	r->end = end;
	count_bytes(mm->e, sizeof(*r));
	return r;
}

static size_t array_bytes(uint32_t nr)
{
	return sizeof(struct region_array) + nr * sizeof(struct region *);
}

static struct region_array *array_new(struct engine *e, uint32_t nr)
{
	struct region_array *a = malloc(array_bytes(nr));

	if (!a)
		return NULL;
	a->nr = nr;
	count_bytes(e, (int64_t)array_bytes(nr));
	return a;
}

struct region_array *region_array_empty(struct engine *e)
{
	return array_new(e, 0);
}

/* Never published, or no reader left; without regions in it. */
void region_array_free(struct engine *e, struct region_array *a)
{
	if (a)
		count_bytes(e, -(int64_t)array_bytes(a->nr));
	free(a);
}

static void array_free_rcu(struct rcu_head *h)
{
	free(caa_container_of(h, struct region_array, rcu));
}

static void array_retire(struct engine *e, struct region_array *a)
{
	count_bytes(e, -(int64_t)array_bytes(a->nr));
	call_rcu(&a->rcu, array_free_rcu);
}

/* The array is not published any more: drop its references, and itself. */
void region_array_put_all(struct engine *e, struct region_array *a)
{
	uint32_t i;

	for (i = 0; i < a->nr; i++)
		region_put(a->r[i]);
	array_retire(e, a);
}

uint32_t region_index(const struct region_array *a, uint64_t addr)
{
	uint32_t lo = 0, hi = a->nr;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (a->r[mid]->end > addr)
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
	uint32_t i;

	rcu_read_lock();
	a = rcu_dereference(mm->regions);
	for (i = region_index(a, addr); i < a->nr; i++)
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

	return i < a->nr && a->r[i]->start <= addr ? a->r[i] : NULL;
}

static bool range_ok(uint64_t start, uint64_t end)
{
	return start < end && end <= ADDR_MAX && !(start % PAGE_BYTES) && !(end % PAGE_BYTES);
}

static void add_race(struct track_window *t, uint64_t start, uint64_t end)
{
	unsigned int i = TRACK_RACED - 1;

	if (end <= t->start || start >= t->end)
		return;
	if (t->nr_raced < TRACK_RACED) {
		t->raced[t->nr_raced].start = start;
		t->raced[t->nr_raced++].end = end;
		return;
	}
	t->raced[i].start = start < t->raced[i].start ? start : t->raced[i].start;
	t->raced[i].end = end > t->raced[i].end ? end : t->raced[i].end;
}

/*
 * DEL, FORGET and ADOPT: what the scan saw of these pages just now may be older. Several workers may be
 * tracking the client: its own, and those that follow another client into it (follow.c).
 */
static void note_race(struct mm_slot *mm, uint64_t start, uint64_t end)
{
	unsigned int i;

	for (i = 0; i < ENGINE_WORKERS; i++)
		if (mm->e->worker[i].track.mm == mm)
			add_race(&mm->e->worker[i].track, start, end);
}

/*
 * Replace regions [first, first + nr_old) of the live array by v[0..nr_new), whose references go
 * to the new array. Mappings are counted inside regions only: an edge of an old region may now lie
 * inside a new one and gain a mapping, an edge of a new one may have lain inside an old one and
 * lose it. No address occurs twice among either, and one that is in both counts nothing each time.
 */
static void splice(struct mm_slot *mm, struct region_array *n, uint32_t first, uint32_t nr_old,
		   struct region **v, uint32_t nr_new)
{
	struct region_array *old = mm->regions;
	uint32_t i;

	memcpy(n->r, old->r, first * sizeof(*n->r));
	memcpy(n->r + first, v, nr_new * sizeof(*n->r));
	memcpy(n->r + first + nr_new, old->r + first + nr_old,
	       (old->nr - first - nr_old) * sizeof(*n->r));
	for (i = 0; i < nr_old; i++) {
		mm->vmas_ours += vma_boundary(mm, n, old->r[first + i]->start);
		mm->vmas_ours += vma_boundary(mm, n, old->r[first + i]->end);
	}
	for (i = 0; i < nr_new; i++) {
		mm->vmas_ours -= vma_boundary(mm, old, v[i]->start);
		mm->vmas_ours -= vma_boundary(mm, old, v[i]->end);
	}
	rcu_assign_pointer(mm->regions, n);
	for (i = 0; i < nr_old; i++)
		region_put(old->r[first + i]);
	array_retire(mm->e, old);
}

static int add_locked(struct mm_slot *mm, uint64_t start, uint64_t end)
{
	struct region_array *old = mm->regions, *n;
	uint32_t first, last;
	struct region *r;

	/* Regions that overlap or touch: [first, last). */
	first = region_index(old, start ? start - 1 : 0);
	for (last = first; last < old->nr && old->r[last]->start <= end; last++)
		;
	if (last - first == 1 && old->r[first]->start <= start && old->r[first]->end >= end)
		return 0;
	if (last > first) {
		start = old->r[first]->start < start ? old->r[first]->start : start;
		end = old->r[last - 1]->end > end ? old->r[last - 1]->end : end;
	}
	n = array_new(mm->e, old->nr - (last - first) + 1);
	r = region_new(mm, start, end);
	if (!n || !r) {
		region_array_free(mm->e, n);
		if (r)
			region_put(r);
		return -ENOMEM;
	}
	splice(mm, n, first, last - first, &r, 1);
	return 0;
}

int engine_region_add(struct mm_slot *mm, uint64_t start, uint64_t end)
{
	int r;

	if (!range_ok(start, end))
		return -EINVAL;
	engine_lock(mm->e);
	r = mm->dead ? -EINVAL : add_locked(mm, start, end);
	engine_unlock(mm->e);
	return r;
}

/* What is left of regions [first, last) when [start, end) goes: at most two pieces. */
static int pieces(struct mm_slot *mm, uint32_t first, uint32_t last, uint64_t start, uint64_t end,
		  struct region **v)
{
	struct region *l = mm->regions->r[first], *r = mm->regions->r[last - 1];
	int nr = 0;

	if (l->start < start) {
		v[nr] = region_new(mm, l->start, start);
		if (!v[nr++])
			return -ENOMEM;
	}
	if (r->end > end) {
		v[nr] = region_new(mm, end, r->end);
		if (!v[nr++]) {
			if (nr == 2)
				region_put(v[0]);
			return -ENOMEM;
		}
	}
	return nr;
}

static int del_locked(struct mm_slot *mm, uint64_t start, uint64_t end)
{
	struct region_array *old = mm->regions, *n;
	struct region *v[2];
	uint32_t first = region_index(old, start), last;
	int nr;

	for (last = first; last < old->nr && old->r[last]->start < end; last++)
		;
	if (first == last)
		return 0;
	nr = pieces(mm, first, last, start, end, v);
	if (nr < 0)
		return nr;
	n = array_new(mm->e, old->nr - (last - first) + (uint32_t)nr);
	if (!n) {
		while (nr)
			region_put(v[--nr]);
		return -ENOMEM;
	}
	rmap_drop_range(mm, start, end);
	splice(mm, n, first, last - first, v, (uint32_t)nr);
	mm_windows_trim(mm, start, end);
	return 0;
}

int engine_region_del(struct mm_slot *mm, uint64_t start, uint64_t end)
{
	int r;

	if (!range_ok(start, end))
		return -EINVAL;
	engine_lock(mm->e);
	note_race(mm, start, end);
	r = del_locked(mm, start, end);
	engine_unlock(mm->e);
	return r;
}

int engine_region_forget(struct mm_slot *mm, uint64_t start, uint64_t end)
{
	if (!range_ok(start, end))
		return -EINVAL;
	engine_lock(mm->e);
	note_race(mm, start, end);
	rmap_drop_range(mm, start, end);
	engine_unlock(mm->e);
	return 0;
}

/* The client says that its page stands on this frame already. False: no memory. */
static bool adopt_page(struct mm_slot *mm, uint64_t addr, uint32_t frame)
{
	struct engine *e = mm->e;
	uint32_t bi = rmap_get(mm, (uint32_t)(addr / BLOCK_BYTES), region_at(mm, addr));
	uint32_t node = pool_node(&e->pool, frame);
	unsigned int slot = addr / PAGE_BYTES % BLOCK_PAGES;
	struct stable_node *n;

	if (bi == NIL)
		return false;
	if (node != POOL_NONE && stable_node(&e->stable, node)->filling)
		node = POOL_NONE; /* nobody was told of it yet: not true */
	if (node != POOL_NONE) {
		/* First of all: dropping the page's old state must not free this very frame. */
		n = stable_node(&e->stable, node);
		n->told = 1;
		if (n->state == STABLE_RETIRED)
			stable_revive(&e->stable, node, tree_root(e, pool_nid(&e->pool, frame)));
		n->nr_ordered++;
	}
	if (rmap_state(rmap_block(e, bi), slot) != RMAP_ABSENT)
		rmap_set(e, bi, slot, RMAP_ABSENT, 0);
	if (node == POOL_NONE) {
		rmap_set(e, bi, slot, RMAP_FOREIGN, 0);
		return true;
	}
	rmap_set(e, bi, slot, RMAP_MERGED, node);
	stable_node(&e->stable, node)->nr_ordered--;
	/* It may have been written since the client looked, and that have been seen already. */
	rmap_pend(e, bi, slot, false);
	return true;
}

int engine_adopt(struct mm_slot *mm, uint64_t addr, uint32_t nr, uint32_t frame)
{
	struct engine *e = mm->e;
	uint64_t end = addr + nr * PAGE_BYTES;
	struct region *r;
	uint32_t i;
	int ret = 0;

	if (!range_ok(addr, end) || (uint64_t)frame + nr > pool_nr_frames(&e->pool))
		return -EINVAL;
	engine_lock(e);
	r = region_at(mm, addr);
	if (!r || r->end < end) {
		ret = -EINVAL;
		goto out;
	}
	note_race(mm, addr, end);
	engine_settle_nodes(e);
	for (i = 0; i < nr; i++)
		if (!adopt_page(mm, addr + i * PAGE_BYTES, frame + i)) {
			ret = -ENOMEM;
			break;
		}
out:
	engine_unlock(e);
	return ret;
}
