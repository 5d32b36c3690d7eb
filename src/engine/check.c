/* SPDX-License-Identifier: MIT */
/*
 * check.c - engine_check() recomputes everything that is kept incrementally, and compares.
 *
 * It is for tests and debug builds: it walks every page, site and frame under the engine lock. The
 * equations it holds the engine to are the invariants that the struct comments state.
 */
#include <stdio.h>
#include <stdlib.h>

#include "engine/block.h"
#include "engine/core.h"
#include "engine/crowd.h"
#include "engine/mm.h"
#include "engine/settle.h"
#include "engine/unstable.h"
#include "engine/vma.h"

struct check {
	struct engine *e;
	const char *why;
	uint64_t nr_state[RMAP_NR], left[KSM_LEFT_NR], vmas, for_forks;
	uint64_t ready, orders, blocks;
	uint32_t *ordered;             /* orders per stable node */
	uint64_t on_nid[ENGINE_NODES]; /* sites by node, less what clients count */
};

#define REQUIRE(c, cond)                                                                           \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			(c)->why = #cond;                                                          \
			return -1;                                                                 \
		}                                                                                  \
	} while (0)

/* A site of the node is to move. */
static int check_move(struct check *c, const struct stable_node *n)
{
	const struct stable_node *to;

	REQUIRE(c, n->nr_moving && n->to != NIL && slab_is_used(&c->e->stable.nodes, n->to));
	to = stable_node(&c->e->stable, n->to);
	REQUIRE(c, to->state == STABLE_LIVE && !to->filling && to->hash == n->hash);
	c->ordered[n->to]++;
	return 0;
}

static int check_slot(struct check *c, struct mm_slot *mm, const struct rmap_block *b,
		      unsigned int slot) NEEDS(mm->e->lock)
{
	enum rmap_state s = rmap_state(b, slot);
	uint64_t bit = bit64(slot);
	uint32_t node = b->item[slot].s.node;

	REQUIRE(c, s < RMAP_NR);
	REQUIRE(c, !(b->tracked & bit) == (s == RMAP_ABSENT));
	REQUIRE(c, !(b->pending & bit) || s == RMAP_VOLATILE || s == RMAP_COWED ||
			   s == RMAP_FOREIGN || s == RMAP_MERGED || s == RMAP_WAITING ||
			   s == RMAP_UNSTABLE);
	REQUIRE(c, !(b->fresh & bit) || (b->pending & bit));
	REQUIRE(c, s == RMAP_MERGED || !((b->ready | b->inflight) & bit) == (s != RMAP_ORDERED));
	REQUIRE(c, !(b->ready & b->inflight & bit));
	REQUIRE(c, s == RMAP_ABSENT || region_at(mm, block_pn(b, slot) << PAGE_SHIFT));
	REQUIRE(c, !(b->state[slot] & RMAP_LEFT & ~RMAP_FOLLOWED) || s == RMAP_VOLATILE);
	REQUIRE(c, !(b->state[slot] & RMAP_FOLLOWED) || s == RMAP_ORDERED || s == RMAP_VOLATILE);
	c->left[KSM_LEFT_PINNED] += !!(b->state[slot] & RMAP_LEFT_PINNED);
	c->left[KSM_LEFT_FORK_SHARED] += !!(rmap_left(b, slot) & RMAP_LEFT_FORK);
	c->left[KSM_LEFT_VMA_BUDGET] += !!(b->state[slot] & RMAP_LEFT_VMA);
	c->left[KSM_LEFT_ARENA_LIMIT] += !!(b->state[slot] & RMAP_LEFT_ARENA);
	if (s != RMAP_ABSENT)
		c->nr_state[s]++;
	if (s == RMAP_ORDERED && node != NODE_ZERO) {
		REQUIRE(c, slab_is_used(&c->e->stable.nodes, node));
		REQUIRE(c, stable_node(&c->e->stable, node)->state == STABLE_LIVE);
		c->ordered[node]++;
	}
	REQUIRE(c, !(b->inlaid & bit) || s == RMAP_VOLATILE || s == RMAP_UNSTABLE ||
			   s == RMAP_WAITING || s == RMAP_ORDERED);
	if (s == RMAP_WAITING) {
		REQUIRE(c, slab_is_used(&c->e->crowds.slab, node));
		REQUIRE(c, unstable_find(mm->e, crowd_at(mm->e, node)->root,
					 item_hash(&b->item[slot])) == NIL);
	}
	if (s == RMAP_MERGED) {
		REQUIRE(c, slab_is_used(&c->e->stable.nodes, node));
		REQUIRE(c, stable_node(&c->e->stable, node)->state == STABLE_LIVE);
		if ((b->ready | b->inflight) & bit)
			return check_move(c, stable_node(&c->e->stable, node));
	}
	return 0;
}

static int check_block(struct check *c, struct mm_slot *mm, uint32_t key, uint32_t bi)
	NEEDS(mm->e->lock)
{
	const struct rmap_block *b;

	REQUIRE(c, slab_is_used(&c->e->blocks, bi));
	b = rmap_block(c->e, bi);
	REQUIRE(c, b->key == key && block_find(mm, key) == bi && block_mm(b) == mm);
	REQUIRE(c, b->tracked);
	REQUIRE(c, !b->pending || b->on[LINK_PEND]);
	REQUIRE(c, !(b->inlaid & (~b->tracked | 1)));
	REQUIRE(c, !b->ready == !b->on[LINK_READY]);
	REQUIRE(c, !b->inflight || b->order != NIL);
	REQUIRE(c, b->order == NIL || (mm->order[b->order].id && mm->order[b->order].block == bi));
	c->ready += (uint64_t)__builtin_popcountll(b->ready);
	c->blocks++;
	for (unsigned int slot = 0; slot < BLOCK_PAGES; slot++)
		if (check_slot(c, mm, b, slot))
			return -1;
	return 0;
}

/* Mappings that merging added, from scratch: every boundary left of a page, and right of blocks. */
static uint64_t count_vmas(struct mm_slot *mm) NEEDS(mm->e->lock)
{
	uint64_t nr = 0;

	for (uint32_t i = 0; i < mm->table.cap; i++) {
		const struct block_entry *s = &mm->table.entry[i];
		struct span at = block_span(s->key);

		if (s->block == NIL)
			continue;
		for (uint64_t addr = at.start; addr < at.end; addr += PAGE_BYTES)
			nr += vma_boundary(mm, mm->regions, addr);
		/* The next block's own count covers the boundary, if there is a next block. */
		if (block_find(mm, s->key + 1) == NIL)
			nr += vma_boundary(mm, mm->regions, at.end);
	}
	return nr;
}

static int check_regions(struct check *c, const struct region_array *a)
{
	struct region_pos p = { 0, 0 };
	const struct region *r;
	uint64_t end = 0;
	uint32_t nr = 0;

	for (uint32_t i = 0; i < a->nr_leaves; i++)
		REQUIRE(c, a->leaf[i]->nr && a->leaf[i]->nr <= LEAF_REGIONS);
	for (; (r = region_on(a, p)); p = region_after(a, p)) {
		REQUIRE(c, !nr++ || r->at.start > end);
		end = r->at.end;
	}
	REQUIRE(c, nr == a->nr);
	return 0;
}

static int check_mm(struct check *c, struct mm_slot *mm) NEEDS(mm->e->lock)
{
	struct check one = { .e = c->e, .ordered = c->ordered };
	uint64_t orders = 0, reserved = 0;

	if (check_regions(c, mm->regions))
		return -1;
	for (uint32_t i = 0; i < mm->table.cap; i++)
		if (mm->table.entry[i].block != NIL &&
		    check_block(&one, mm, mm->table.entry[i].key, mm->table.entry[i].block)) {
			c->why = one.why;
			return -1;
		}
	for (uint32_t i = 0; i < MM_MAX_ORDERS; i++)
		if (mm->order[i].id) {
			orders++;
			reserved += mm->order[i].vmas;
		}
	REQUIRE(c, orders == mm->nr_orders && reserved == mm->vmas_reserved);
	REQUIRE(c, one.blocks == mm->table.nr && one.ready == mm->nr_ready);
	REQUIRE(c, count_vmas(mm) == mm->vmas_ours);
	c->vmas += mm->vmas_ours;
	c->for_forks += mm->forks.told ? mm->left[KSM_LEFT_VMA_BUDGET] : 0;
	for (int s = 0; s < RMAP_NR; s++) {
		REQUIRE(c, one.nr_state[s] == mm->nr_state[s]);
		c->nr_state[s] += one.nr_state[s];
	}
	for (int s = 0; s < KSM_LEFT_NR; s++) {
		REQUIRE(c, one.left[s] == mm->left[s]);
		c->left[s] += one.left[s];
	}
	c->ready += one.ready;
	c->orders += orders;
	c->blocks += one.blocks;
	return 0;
}

/* The reverse mapping of one node against what the items say. */
static int check_node(struct check *c, uint32_t n) NEEDS(c->e->lock)
{
	struct engine *e = c->e;
	struct stable_node *node = stable_node(&e->stable, n);
	uint32_t i, prev = NIL, nr = 0, moving = 0;

	REQUIRE(c, pool_word(&e->pool, node->frame) == n);
	for (i = node->first; i != NIL; nr++) {
		const struct rmap_block *b = rmap_block(e, i / BLOCK_PAGES);
		const struct rmap_item *it = &b->item[i % BLOCK_PAGES];

		REQUIRE(c, rmap_state(b, i % BLOCK_PAGES) == RMAP_MERGED);
		REQUIRE(c, it->s.node == n && it->s.prev == prev && nr < node->nr_items);
		moving += ((b->ready | b->inflight) >> (i % BLOCK_PAGES)) & 1;
		prev = i;
		i = it->s.next;
	}
	REQUIRE(c, nr == node->nr_items);
	c->on_nid[node->nid] += node->state == STABLE_LIVE ? nr : 0;
	REQUIRE(c, node->state != STABLE_LIVE ||
			   (moving == node->nr_moving && !moving == (node->to == NIL)));
	REQUIRE(c, c->ordered[n] == node->nr_ordered);
	REQUIRE(c, !node->nr_items || node->told);
	REQUIRE(c, node->nid < e->nr_nodes && (node->state != STABLE_LIVE || e->resort ||
					       node->root == tree_root(e, node->nid)));
	return 0;
}

/* Frames that the pool counts as retired, or as used, in all zones. */
static uint64_t frames_of_pool(struct engine *e, bool retired)
{
	uint64_t sum = 0;

	for (int nid = 0; nid < e->nr_nodes; nid++) {
		struct pool_counts c;

		pool_counts(&e->pool, nid, &c);
		sum += retired ? c.retired : c.used - c.claimed;
	}
	return sum;
}

static int check_all(struct check *c) NEEDS(c->e->lock)
{
	struct engine *e = c->e;
	struct mm_slot *mm;

	cds_list_for_each_entry(mm, &e->mms, list) {
		mm_is_of(mm, c->e);
		if (check_mm(c, mm))
			return -1;
	}
	for (int s = 0; s < RMAP_NR; s++)
		REQUIRE(c, c->nr_state[s] == e->nr_state[s]);
	for (int s = 0; s < KSM_LEFT_NR; s++)
		REQUIRE(c, c->left[s] == e->left[s]);
	REQUIRE(c, c->vmas == e->vmas_ours && c->for_forks == e->left_for_forks);
	REQUIRE(c,
		c->ready == e->nr_ready && c->orders == e->nr_orders && c->blocks == e->blocks.nr);
	for (uint32_t n = 0; n < e->stable.nodes.nr_chunks * SLAB_CHUNK; n++)
		if (slab_is_used(&e->stable.nodes, n) && check_node(c, n))
			return -1;
	cds_list_for_each_entry(mm, &e->mms, list)
		for (int nid = 0; nid < e->nr_nodes; nid++)
			c->on_nid[nid] -= mm->on_nid[nid];
	for (int nid = 0; nid < e->nr_nodes; nid++)
		REQUIRE(c, !c->on_nid[nid]);
	REQUIRE(c, e->pool.nr_used == e->stable.nodes.nr + e->nr_copying);
	REQUIRE(c, e->pool.nr_used <= e->allowed);
	REQUIRE(c, frames_of_pool(e, true) == e->stable.nr_retired);
	REQUIRE(c, frames_of_pool(e, false) == e->stable.nr_live + e->nr_copying);
	REQUIRE(c, unstable_check(c->e) == 0);
	if (crowds_check(c->e, &c->why))
		return -1;
	REQUIRE(c, pool_check(&e->pool) == 0);
	return stable_check(&e->stable, &c->why);
}

int engine_check(struct engine *e, char *msg, size_t size)
{
	struct check c = { .e = e, .why = "" };
	int r;

	engine_lock(c.e);
	c.ordered = calloc(e->stable.nodes.nr_chunks * SLAB_CHUNK + 1, sizeof(*c.ordered));
	r = c.ordered ? check_all(&c) : -1;
	if (r)
		snprintf(msg, size, "%s", c.ordered ? c.why : "no memory to check with");
	engine_unlock(c.e);
	free(c.ordered);
	return r;
}
