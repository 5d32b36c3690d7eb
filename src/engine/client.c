/* SPDX-License-Identifier: MIT */
/* client.c - what a client tells the engine: that it is there, what it offers, what it stands on. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/across.h"
#include "engine/block.h"
#include "engine/core.h"
#include "engine/layout.h"
#include "engine/mm.h"
#include "engine/page.h"
#include "engine/settle.h"
#include "engine/vma.h"

/* up to 64 nodes */

struct mm_slot *engine_mm_new(struct engine *e, void *client, uint32_t id)
{
	struct mm_slot *mm = calloc(1, sizeof(*mm));
	int i;

	if (!mm)
		return NULL;
	mm->regions = region_array_empty(e);
	mm->no_regions = region_array_empty(e);
	if (!mm->regions || !mm->no_regions) {
		region_array_free(e, mm->regions);
		region_array_free(e, mm->no_regions);
		free(mm->dense.run);
		free(mm);
		return NULL;
	}
	urcu_ref_init(&mm->ref);
	mm->e = e;
	mm->client = client;
	mm->id = id;
	mm->max_map_count = 65530; /* the kernel's default, until the client tells */
	for (i = 0; i < BLOCK_LIST_NR; i++)
		mm->blocks[i].first = mm->blocks[i].last = NIL;
	count_bytes(e, sizeof(*mm));
	engine_lock(e);
	mm->serial = e->next_serial++;
	cds_list_add_tail(&mm->list, &e->mms);
	engine_unlock(e);
	__atomic_fetch_add(&e->nr_mms, 1, __ATOMIC_RELAXED);
	return mm;
}

/* Everything that hangs on a client, except itself and its references. */
static void teardown(struct mm_slot *mm)
{
	struct engine *e = mm->e;
	struct region_array *old = mm->regions;

	page_drop_range(mm, 0, KSM_ADDR_END); /* and the table itself */
	rcu_assign_pointer(mm->regions, mm->no_regions);
	mm->no_regions = NULL;
	region_array_put_all(e, old);
	layout_trim(mm, 0, KSM_ADDR_END);
	memset(mm->order, 0, sizeof(mm->order));
	e->nr_orders -= mm->nr_orders;
	mm->nr_orders = 0;
	mm->vmas_reserved = 0;
	mm->vmas_ours = 0;
}

void engine_mm_exit(struct mm_slot *mm)
{
	engine_lock(mm->e);
	if (!mm->dead) {
		CMM_STORE_SHARED(mm->dead, 1);
		cds_list_del(&mm->list);
		teardown(mm);
	}
	engine_unlock(mm->e);
}

void engine_mm_set_vmas(struct mm_slot *mm, uint32_t nr_vmas, uint32_t max_map_count)
{
	engine_lock(mm->e);
	/* The client counts all of them, ours included. */
	mm->vmas_own = nr_vmas > mm->vmas_ours ? nr_vmas - (uint32_t)mm->vmas_ours : 0;
	mm->max_map_count = max_map_count;
	engine_unlock(mm->e);
}

static bool range_ok(uint64_t start, uint64_t end)
{
	return start < end && end <= KSM_ADDR_END && !(start % PAGE_BYTES) && !(end % PAGE_BYTES);
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
	page_drop_range(mm, start, end);
	splice(mm, n, first, last - first, v, (uint32_t)nr);
	layout_trim(mm, start, end);
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
	page_drop_range(mm, start, end);
	engine_unlock(mm->e);
	return 0;
}

/* The client says that its page stands on this frame already. False: no memory. */
static bool adopt_page(struct mm_slot *mm, uint64_t addr, uint32_t frame)
{
	struct engine *e = mm->e;
	uint32_t bi = block_get(mm, (uint32_t)(addr / BLOCK_BYTES), region_at(mm, addr));
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
		page_set(e, bi, slot, RMAP_ABSENT, 0);
	if (node == POOL_NONE) {
		page_set(e, bi, slot, RMAP_FOREIGN, 0);
		return true;
	}
	page_set(e, bi, slot, RMAP_MERGED, node);
	stable_node(&e->stable, node)->nr_ordered--;
	/* It may have been written since the client looked, and that have been seen already. */
	page_pend(e, bi, slot, false);
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
	across_take(e);
	for (i = 0; i < nr; i++)
		if (!adopt_page(mm, addr + i * PAGE_BYTES, frame + i)) {
			ret = -ENOMEM;
			break;
		}
out:
	engine_unlock(e);
	return ret;
}
