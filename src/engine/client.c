/* SPDX-License-Identifier: MIT */
/*
 * client.c - what a client tells the engine: that it is there, what it offers, what it stands on.
 *
 * A client is in the engine's list from engine_mm_new() to engine_mm_exit(). A scanning worker
 * finds it there under the lock and takes a reference that keeps the object, and the daemon's
 * client behind it, usable after the exit; there is then nothing left in it to find.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/core.h"
#include "engine/across.h"
#include "engine/allow.h"
#include "engine/block.h"
#include "engine/budget.h"
#include "engine/forks.h"
#include "engine/layout.h"
#include "engine/mm.h"
#include "engine/page.h"
#include "engine/settle.h"
#include "engine/vma.h"
#include "engine/glance.h"

#define PART_BLOCKS 256u            /* 16,384 pages, to forget each of which takes 50 ns */
#define PART_REGIONS 1024u          /* to replace each of which takes 400 to 800 ns */
#define DEFAULT_MAX_MAP_COUNT 65530 /* the kernel's, until the client tells */

/* --- its life --- */

struct mm_slot *engine_mm_new(struct engine *e, void *client, uint32_t id)
{
	struct mm_slot *mm = calloc(1, mm_bytes(e));

	if (!mm)
		return NULL;
	mm->regions = array_new(e);
	mm->no_regions = array_new(e);
	if (!mm->regions || !mm->no_regions) {
		array_free(e, mm->regions);
		array_free(e, mm->no_regions);
		free(mm);
		return NULL;
	}
	urcu_ref_init(&mm->ref);
	mm->e = e;
	mm->client = client;
	mm->id = id;
	mm->max_map_count = DEFAULT_MAX_MAP_COUNT;
	mm->choice = BUDGET_ALL;
	mm->reader = NID_UNKNOWN;
	for (int i = 0; i < BLOCK_LIST_NR; i++)
		mm->blocks[i].first = mm->blocks[i].last = NIL;
	count_bytes(e, (int64_t)mm_bytes(e));
	engine_lock(e);
	mm->serial = e->next_serial++;
	mm->family = mm->serial; /* daemons give no such small numbers */
	cds_list_add_tail(&mm->list, &e->mms);
	engine_unlock(e);
	__atomic_fetch_add(&e->nr_mms, 1, __ATOMIC_RELAXED);
	return mm;
}

void engine_mm_set_family(struct mm_slot *mm, uint64_t family)
{
	engine_lock(mm->e);
	mm->family = family;
	engine_unlock(mm->e);
}

bool engine_mm_set_reader(struct mm_slot *mm, int nid)
{
	bool news;

	if (nid < 0 || nid >= mm->e->nr_nodes)
		nid = NID_UNKNOWN;
	engine_lock(mm->e);
	news = mm->reader != nid;
	mm->e->reader_changes += news;
	mm->reader = nid;
	engine_unlock(mm->e);
	return news;
}

/* Everything that hangs on a client, except itself and its references. */
static void teardown(struct mm_slot *mm) NEEDS(mm->e->lock)
{
	struct span all = { 0, KSM_ADDR_END };
	struct region_array *old = mm->regions;

	page_drop_range(mm, all); /* and the table itself */
	rcu_assign_pointer(mm->regions, mm->no_regions);
	mm->no_regions = NULL;
	array_put_all(mm->e, old);
	layout_trim(mm, all);
	memset(mm->order, 0, sizeof(mm->order));
	mm->e->nr_orders -= mm->nr_orders;
	mm->nr_orders = 0;
	mm->vmas_reserved = 0;
	vma_count(mm, -mm->vmas_ours);
	allow_memory_less(mm);
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

void engine_mm_forked(struct mm_slot *mm, uint32_t nr)
{
	engine_lock(mm->e);
	forks_count(mm, nr);
	budget_tell_forks(mm);
	engine_unlock(mm->e);
}

void engine_mm_hurry(struct mm_slot *mm)
{
	engine_lock(mm->e);
	/* One is taken off at the beginning of a pass, so three cover two whole ones. */
	mm->hurry = 3;
	engine_unlock(mm->e);
}

void engine_mm_set_vmas(struct mm_slot *mm, uint32_t nr_vmas, uint32_t max_map_count)
{
	engine_lock(mm->e);
	/* The client counts all of them, those of merging included. */
	mm->vmas_own = nr_vmas > mm->vmas_ours ? nr_vmas - (uint32_t)mm->vmas_ours : 0;
	mm->max_map_count = max_map_count;
	budget_tell_forks(mm);
	engine_unlock(mm->e);
}

/* --- what it offers --- */

static bool pos_equal(struct region_pos a, struct region_pos b)
{
	return a.leaf == b.leaf && a.at == b.at;
}

static bool range_ok(struct span at)
{
	return !span_empty(at) && at.end <= KSM_ADDR_END && !(at.start % PAGE_BYTES) &&
	       !(at.end % PAGE_BYTES);
}

/*
 * Replace the regions in [from, to) of the live array by v[0..nr), whose references go to the new
 * array. Mappings are counted inside regions only: an edge of an old region may now lie inside a
 * new one and gain a mapping, an edge of a new one may have lain inside an old one and lose it. No
 * address occurs twice among either, and one that is in both counts nothing each time.
 */
static void splice(struct mm_slot *mm, const struct region_change *c, struct region_pos from,
		   struct region_pos to, struct region **v, uint32_t nr) NEEDS(mm->e->lock)
{
	struct region_array *old = mm->regions;
	struct region_pos p;

	for (p = from; !pos_equal(p, to); p = region_after(old, p)) {
		vma_count(mm, vma_boundary(mm, c->to, region_on(old, p)->at.start));
		vma_count(mm, vma_boundary(mm, c->to, region_on(old, p)->at.end));
	}
	for (uint32_t i = 0; i < nr; i++) {
		vma_count(mm, -(uint64_t)vma_boundary(mm, old, v[i]->at.start));
		vma_count(mm, -(uint64_t)vma_boundary(mm, old, v[i]->at.end));
	}
	rcu_assign_pointer(mm->regions, c->to);
	for (p = from; !pos_equal(p, to); p = region_after(old, p))
		region_put(region_on(old, p));
	array_retire(mm->e, old, c);
}

/* Returns 0 or -ENOMEM. */
static int add_region(struct mm_slot *mm, struct span at) NEEDS(mm->e->lock)
{
	struct region_array *old = mm->regions;
	struct region_pos from, to;
	struct region_change c;
	struct region *r;

	/* Regions that overlap or touch: [from, to). */
	from = region_find(old, at.start ? at.start - 1 : 0);
	r = region_on(old, from);
	if (r && r->at.start <= at.start && r->at.end >= at.end)
		return 0;
	for (to = from; (r = region_on(old, to)) && r->at.start <= at.end;
	     to = region_after(old, to)) {
		at.start = u64_min(at.start, r->at.start);
		at.end = u64_max(at.end, r->at.end);
	}
	if (!allow_memory(mm, sizeof(*r) + sizeof(r)))
		return -ENOMEM;
	r = region_new(mm, at);
	if (!r)
		return -ENOMEM;
	if (!array_replace(mm->e, old, from, to, &r, 1, &c)) {
		region_put(r);
		return -ENOMEM;
	}
	splice(mm, &c, from, to, &r, 1);
	return 0;
}

int engine_region_add(struct mm_slot *mm, uint64_t start, uint64_t end)
{
	struct span at = { start, end };
	int r;

	if (!range_ok(at))
		return -EINVAL;
	engine_lock(mm->e);
	r = mm->dead ? -EINVAL : add_region(mm, at);
	if (!r)
		unseen_note(&mm->unseen, at);
	still_spoil(&mm->still);
	engine_unlock(mm->e);
	return r;
}

/* What is left of regions that reach over `whole` when `at` goes: 0 to 2 pieces, or -ENOMEM. */
static int pieces(struct mm_slot *mm, struct span whole, struct span at, struct region **v)
	NEEDS(mm->e->lock)
{
	struct span left = { whole.start, at.start }, right = { at.end, whole.end };
	int nr = 0;

	if (!span_empty(left)) {
		v[nr] = region_new(mm, left);
		if (!v[nr++])
			return -ENOMEM;
	}
	if (!span_empty(right)) {
		v[nr] = region_new(mm, right);
		if (!v[nr++]) {
			if (nr == 2)
				region_put(v[0]);
			return -ENOMEM;
		}
	}
	return nr;
}

/* Returns 0 or -ENOMEM. */
static int del_regions(struct mm_slot *mm, struct span at) NEEDS(mm->e->lock)
{
	struct region_array *old = mm->regions;
	struct region_pos from = region_find(old, at.start), to;
	struct span whole = { 0, 0 };
	struct region_change c;
	struct region *v[2], *r;
	int nr;

	for (to = from; (r = region_on(old, to)) && r->at.start < at.end;
	     to = region_after(old, to)) {
		whole.start = whole.end ? whole.start : r->at.start;
		whole.end = r->at.end;
	}
	if (pos_equal(from, to))
		return 0;
	nr = pieces(mm, whole, at, v);
	if (nr < 0)
		return nr;
	if (!array_replace(mm->e, old, from, to, v, (uint32_t)nr, &c)) {
		while (nr)
			region_put(v[--nr]);
		return -ENOMEM;
	}
	page_drop_range(mm, at);
	splice(mm, &c, from, to, v, (uint32_t)nr);
	layout_trim(mm, at);
	allow_memory_less(mm);
	return 0;
}

/* The beginning of it, up to where PART_REGIONS regions that reach into it have ended. */
static struct span few_regions(const struct mm_slot *mm, struct span at) NEEDS(mm->e->lock)
{
	struct region_pos p = region_find(mm->regions, at.start);
	const struct region *r = region_on(mm->regions, p);

	if (mm->regions->nr <= PART_REGIONS)
		return at;
	for (unsigned int i = 1; i < PART_REGIONS && r && r->at.end < at.end; i++) {
		p = region_after(mm->regions, p);
		r = region_on(mm->regions, p);
	}
	if (r)
		at.end = u64_min(at.end, r->at.end);
	return at;
}

struct span engine_part(struct mm_slot *mm, struct span at)
{
	uint32_t first = (uint32_t)(at.start / BLOCK_BYTES);

	engine_lock(mm->e);
	at = few_regions(mm, at);
	if (mm->table.nr > PART_BLOCKS) {
		first = block_first_key(mm, first);
		at.end = u64_min(at.end, (first + (uint64_t)PART_BLOCKS) * BLOCK_BYTES);
	}
	engine_unlock(mm->e);
	return at;
}

struct span engine_part_to_add(struct mm_slot *mm, struct span at)
{
	engine_lock(mm->e);
	at = few_regions(mm, at);
	engine_unlock(mm->e);
	return at;
}

uint32_t engine_nr_regions(struct mm_slot *mm)
{
	uint32_t nr;

	engine_lock(mm->e);
	nr = mm->regions->nr;
	engine_unlock(mm->e);
	return nr;
}

int engine_region_del(struct mm_slot *mm, uint64_t start, uint64_t end)
{
	struct span at = { start, end };
	int r;

	if (!range_ok(at))
		return -EINVAL;
	engine_lock(mm->e);
	glance_race(mm, at);
	r = del_regions(mm, at);
	engine_unlock(mm->e);
	return r;
}

int engine_region_forget(struct mm_slot *mm, uint64_t start, uint64_t end)
{
	struct span at = { start, end };

	if (!range_ok(at))
		return -EINVAL;
	engine_lock(mm->e);
	glance_race(mm, at);
	page_drop_range(mm, at);
	unseen_note(&mm->unseen, at);
	engine_unlock(mm->e);
	return 0;
}

/* --- what it stands on --- */

/* Stable node of a frame that the client says it stands on; NIL: it cannot, or not any more. */
static uint32_t adopted_node(struct engine *e, uint32_t frame) NEEDS(e->lock)
{
	uint32_t node = pool_word(&e->pool, frame);
	struct stable_node *n;

	if (node == POOL_NONE)
		return NIL;
	n = stable_node(&e->stable, node);
	if (n->filling)
		return NIL; /* no client was told of it yet: not true */
	n->told = 1;
	if (n->state == STABLE_RETIRED) {
		stable_revive(&e->stable, node, tree_root(e, n->nid));
		pool_revive(&e->pool, frame);
	}
	return node;
}

/* The client says that its page stands on this frame already. False: no memory. */
static bool adopt_page(struct mm_slot *mm, uint64_t addr, uint32_t frame) NEEDS(mm->e->lock)
{
	uint32_t key = (uint32_t)(addr / BLOCK_BYTES), node, bi;
	unsigned int slot = addr / PAGE_BYTES % BLOCK_PAGES;

	/*
	 * What is not true costs no record. If the page is there, tracking shows a foreign one. One
	 * message of 40 bytes may claim 16 TiB.
	 */
	if (pool_word(&mm->e->pool, frame) == POOL_NONE)
		bi = block_find(mm, key);
	else
		bi = block_get(mm, key, region_at(mm, addr));
	if (bi == NIL)
		return pool_word(&mm->e->pool, frame) == POOL_NONE;
	node = adopted_node(mm->e, frame);
	/* The page may have stood on this very frame: it empties the node, and fills it again. */
	if (rmap_state(rmap_block(mm->e, bi), slot) != RMAP_ABSENT)
		page_set(mm->e, bi, slot, RMAP_ABSENT, 0);
	if (node == NIL) {
		page_set(mm->e, bi, slot, RMAP_FOREIGN, 0);
		return true;
	}
	page_set(mm->e, bi, slot, RMAP_MERGED, node);
	/* The page may have been written since the client looked; see.c, rule 3. */
	page_pend(mm->e, bi, slot, false);
	return true;
}

int engine_adopt(struct mm_slot *mm, uint64_t addr, uint32_t nr, uint32_t frame)
{
	struct span at = { addr, addr + nr * PAGE_BYTES };
	const struct region *r;
	int ret = 0;

	if (!range_ok(at) || (uint64_t)frame + nr > pool_nr_frames(&mm->e->pool))
		return -EINVAL;
	engine_lock(mm->e);
	r = region_at(mm, addr);
	if (!r || r->at.end < at.end) {
		ret = -EINVAL;
		goto out;
	}
	glance_race(mm, at);
	across_take(mm->e);
	for (uint32_t i = 0; i < nr; i++)
		if (!adopt_page(mm, addr + i * PAGE_BYTES, frame + i)) {
			ret = -ENOMEM;
			break;
		}
out:
	engine_unlock(mm->e);
	return ret;
}
