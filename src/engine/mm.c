/* SPDX-License-Identifier: MIT */
/*
 * mm.c - references to clients, and which memory a client offers.
 *
 * The live regions of a client are an immutable sorted array behind an RCU pointer. A change makes
 * a new array under the engine lock and lets a grace period free the old one. A client may have as
 * many regions as mappings, so the array is one of leaves, and the new one shares those that stay:
 * when each change copied all regions, 170,000 small ones took 40 s. So a scanning worker
 * reads the array without the lock, takes a reference on a region and works with that, while the
 * client withdraws the region or exits: the object lives until the last holder lets go (as an
 * anon_vma does). Region objects never change their bounds: joining and splitting make new ones.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "engine/mm.h"

void mm_get(struct mm_slot *mm)
{
	urcu_ref_get(&mm->ref);
}

bool mm_get_live(struct mm_slot *mm)
{
	return urcu_ref_get_unless_zero(&mm->ref);
}

static void mm_free_rcu(struct rcu_head *h)
{
	struct mm_slot *mm = caa_container_of(h, struct mm_slot, rcu);
	struct engine *e = mm->e;
	void *client = mm->client;

	array_free(e, mm->regions);
	count_bytes(e, -(int64_t)mm_bytes(e));
	free(mm->dense.all.v);
	free(mm->dense.any.v);
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

#define FEW (LEAF_REGIONS / 4) /* a leaf with fewer is joined to a neighbour */
#define PIECES 3               /* leaves that a change can make */

static size_t array_bytes(uint32_t nr)
{
	return sizeof(struct region_array) + nr * sizeof(struct region_leaf *);
}

static size_t leaf_bytes(uint32_t nr)
{
	return sizeof(struct region_leaf) + nr * sizeof(struct region *);
}

static struct region_array *array_of(struct engine *e, uint32_t nr, uint32_t nr_leaves)
{
	struct region_array *a = malloc(array_bytes(nr_leaves));

	if (!a)
		return NULL;
	a->nr = nr;
	a->nr_leaves = nr_leaves;
	count_bytes(e, (int64_t)array_bytes(nr_leaves));
	return a;
}

struct region_array *array_new(struct engine *e)
{
	return array_of(e, 0, 0);
}

void array_free(struct engine *e, struct region_array *a)
{
	if (a)
		count_bytes(e, -(int64_t)array_bytes(a->nr_leaves));
	free(a);
}

static struct region_leaf *leaf_new(struct engine *e, struct region **v, uint32_t nr)
{
	struct region_leaf *l = malloc(leaf_bytes(nr));

	if (!l)
		return NULL;
	l->nr = nr;
	memcpy(l->r, v, nr * sizeof(*v));
	count_bytes(e, (int64_t)leaf_bytes(nr));
	return l;
}

static void leaf_free(struct engine *e, struct region_leaf *l)
{
	count_bytes(e, -(int64_t)leaf_bytes(l->nr));
	free(l);
}

static void array_free_rcu(struct rcu_head *h)
{
	free(caa_container_of(h, struct region_array, rcu));
}

static void leaf_free_rcu(struct rcu_head *h)
{
	free(caa_container_of(h, struct region_leaf, rcu));
}

void array_retire(struct engine *e, struct region_array *a, const struct region_change *c)
{
	for (uint32_t i = c->first; i < c->end; i++) {
		count_bytes(e, -(int64_t)leaf_bytes(a->leaf[i]->nr));
		call_rcu(&a->leaf[i]->rcu, leaf_free_rcu);
	}
	count_bytes(e, -(int64_t)array_bytes(a->nr_leaves));
	call_rcu(&a->rcu, array_free_rcu);
}

void array_put_all(struct engine *e, struct region_array *a)
{
	struct region_change all = { NULL, 0, a->nr_leaves };

	for (uint32_t i = 0; i < a->nr_leaves; i++)
		for (uint32_t k = 0; k < a->leaf[i]->nr; k++)
			region_put(a->leaf[i]->r[k]);
	array_retire(e, a, &all);
}

/* The regions of the leaves that a change makes. */
struct gathered {
	struct region *r[2 * LEAF_REGIONS + 2];
	uint32_t nr;
};

static void gather(struct gathered *g, struct region *const *v, uint32_t nr)
{
	memcpy(g->r + g->nr, v, nr * sizeof(*v));
	g->nr += nr;
}

/* Sets c->first and c->end, and gathers what the leaves in their place hold. */
static void gather_change(struct gathered *g, const struct region_array *a, struct region_pos from,
			  struct region_pos to, struct region **v, uint32_t nr,
			  struct region_change *c)
{
	const struct region_leaf *l;

	if (!from.at && from.leaf && from.leaf == a->nr_leaves) { /* behind the last region */
		from.leaf--;
		from.at = a->leaf[from.leaf]->nr;
	}
	c->first = from.leaf;
	c->end = to.leaf + !!to.at;
	if (c->end == c->first && c->end < a->nr_leaves)
		c->end++;
	if (from.at)
		gather(g, a->leaf[from.leaf]->r, from.at);
	gather(g, v, nr);
	if (to.leaf < c->end) {
		l = a->leaf[to.leaf];
		gather(g, l->r + to.at, l->nr - to.at);
	}
	if (g->nr >= FEW || !g->nr)
		return;
	if (c->end < a->nr_leaves) {
		l = a->leaf[c->end++];
		gather(g, l->r, l->nr);
	} else if (c->first) {
		l = a->leaf[--c->first];
		memmove(g->r + l->nr, g->r, g->nr * sizeof(*g->r));
		memcpy(g->r, l->r, l->nr * sizeof(*g->r));
		g->nr += l->nr;
	}
}

/* Leaves of about the same size. Returns how many, or -1 for want of memory. */
static int make_leaves(struct engine *e, struct gathered *g, struct region_leaf *leaf[PIECES])
{
	uint32_t nr = (g->nr + LEAF_REGIONS - 1) / LEAF_REGIONS, done = 0;

	for (uint32_t i = 0; i < nr; i++) {
		uint32_t n = (g->nr - done) / (nr - i);

		leaf[i] = leaf_new(e, g->r + done, n);
		if (!leaf[i]) {
			while (i)
				leaf_free(e, leaf[--i]);
			return -1;
		}
		done += n;
	}
	return (int)nr;
}

bool array_replace(struct engine *e, const struct region_array *a, struct region_pos from,
		   struct region_pos to, struct region **v, uint32_t nr, struct region_change *c)
{
	struct region_leaf *leaf[PIECES];
	struct gathered g = { .nr = 0 };
	uint32_t total = a->nr, behind;
	int made;

	gather_change(&g, a, from, to, v, nr, c);
	for (uint32_t i = c->first; i < c->end; i++)
		total -= a->leaf[i]->nr;
	made = make_leaves(e, &g, leaf);
	if (made < 0)
		return false;
	behind = a->nr_leaves - c->end;
	c->to = array_of(e, total + g.nr, c->first + (uint32_t)made + behind);
	if (!c->to) {
		while (made)
			leaf_free(e, leaf[--made]);
		return false;
	}
	memcpy(c->to->leaf, a->leaf, c->first * sizeof(*a->leaf));
	memcpy(c->to->leaf + c->first, leaf, (uint32_t)made * sizeof(*a->leaf));
	memcpy(c->to->leaf + c->first + made, a->leaf + c->end, behind * sizeof(*a->leaf));
	return true;
}

struct region_pos region_find(const struct region_array *a, uint64_t addr)
{
	const struct region_leaf *l;
	uint32_t leaf = 0, lo = 0, hi = a->nr_leaves;

	while (leaf < hi) {
		uint32_t mid = leaf + (hi - leaf) / 2;

		l = a->leaf[mid];
		if (l->r[l->nr - 1]->at.end > addr)
			hi = mid;
		else
			leaf = mid + 1;
	}
	if (leaf == a->nr_leaves)
		return (struct region_pos){ leaf, 0 };
	l = a->leaf[leaf];
	for (hi = l->nr; lo < hi;) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (l->r[mid]->at.end > addr)
			hi = mid;
		else
			lo = mid + 1;
	}
	return (struct region_pos){ leaf, lo };
}

struct region *region_next(struct mm_slot *mm, uint64_t addr)
{
	const struct region_array *a;
	struct region_pos p;
	struct region *r;

	rcu_read_lock();
	a = rcu_dereference(mm->regions);
	for (p = region_find(a, addr); (r = region_on(a, p)); p = region_after(a, p))
		if (urcu_ref_get_unless_zero(&r->ref))
			break;
	rcu_read_unlock();
	return r;
}

struct region *region_at(const struct mm_slot *mm, uint64_t addr)
{
	const struct region_array *a = mm->regions;
	struct region *r = region_on(a, region_find(a, addr));

	return r && r->at.start <= addr ? r : NULL;
}
