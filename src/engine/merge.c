/* SPDX-License-Identifier: MIT */
/*
 * merge.c - from "these pages hash alike" to pages that are bound to a stable node.
 *
 * A page is bound to a stable node (ORDERED, ready) and its block's bound pages go to the client as
 * one order (inflight; order.c), as far as its mappings allow (budget.c). The client compares every byte before it maps a frame, so a wrong guess,
 * from a stale hash or a collision, costs time and nothing else. A new frame is written from the
 * very buffer that was hashed, before any order for it can be sent.
 *
 * A node counts its orders (nr_ordered) like sites, so its frame stays while an order for it may
 * be carried out. When a page is dropped under an order, the client has withdrawn or replaced it
 * and will not, or no longer, map the frame there; a process forked from it may, so a frame that
 * any client was told of is retired, never freed at once.
 */
#include <errno.h>
#include <string.h>

#include "engine/engine_internal.h"

static uint32_t limit_of_node(const struct engine *e)
{
	return knob_get(e->knobs, KNOB_MAX_PAGE_SHARING);
}

/* --- binding --- */

uint32_t merge_frame_after_left(const struct engine *e, uint32_t bi, unsigned int slot)
{
	const struct rmap_block *b = rmap_block(e, bi);
	uint32_t node;

	if (!slot) {
		bi = b->key ? rmap_find(block_mm(b), b->key - 1) : NIL;
		if (bi == NIL)
			return POOL_NONE;
		b = rmap_block(e, bi);
		slot = BLOCK_PAGES;
	}
	slot--;
	if (rmap_state(b, slot) != RMAP_MERGED && rmap_state(b, slot) != RMAP_ORDERED)
		return POOL_NONE;
	node = b->item[slot].s.node;
	return node == RMAP_ZERO ? POOL_NONE : stable_node(&e->stable, node)->frame + 1;
}

/*
 * Best frame: next in the partner's run, else in this page's, else its place in the window. In that of
 * the older client, so that it does not matter which of the two is looked at when.
 */
static uint32_t frame_for(struct engine *e, uint32_t bi, unsigned int slot, uint32_t partner,
			  int nid)
{
	const struct rmap_block *b = rmap_block(e, bi), *p = rmap_block(e, partner / BLOCK_PAGES);
	uint32_t want = merge_frame_after_left(e, partner / BLOCK_PAGES, partner % BLOCK_PAGES),
		 window;

	if (want == POOL_NONE || want >= pool_nr_frames(&e->pool) ||
	    pool_nid(&e->pool, want) != nid || pool_is_used(&e->pool, want))
		want = merge_frame_after_left(e, bi, slot);
	if (block_mm(p)->serial < block_mm(b)->serial) {
		b = p;
		slot = partner % BLOCK_PAGES;
	}
	window = mm_window(block_mm(b), block_pn(b, slot), nid);
	return pool_alloc(&e->pool, nid, want, window);
}

/* A page and its partner from the unstable tree get a frame. False: there is none to be had. */
static bool merge_pair(struct scan_worker *w, struct engine *e, uint32_t bi, unsigned int slot,
		       uint64_t hash, uint32_t partner, int nid, unsigned int page)
{
	uint32_t frame = frame_for(e, bi, slot, partner, nid), node;
	struct fill *f = &w->fill;

	if (frame == POOL_NONE)
		return false;
	node = stable_new(&e->stable, tree_root(e, nid), hash, frame);
	if (node == NIL) {
		pool_free(&e->pool, frame);
		return false;
	}
	pool_set_node(&e->pool, frame, node);
	stable_node(&e->stable, node)->filling = STABLE_FILLING;
	f->node[f->nr] = node;
	f->frame[f->nr] = frame;
	f->partner[f->nr] = partner;
	f->page[f->nr++] = (uint8_t)page;
	rmap_set(e, partner / BLOCK_PAGES, partner % BLOCK_PAGES, RMAP_ORDERED, node);
	rmap_set(e, bi, slot, RMAP_ORDERED, node);
	follow_pair(e, bi * BLOCK_PAGES + slot, partner);
	return true;
}

static void mark_followed(struct engine *e, uint32_t bi, unsigned int slot, uint64_t hash)
{
	struct rmap_block *b = rmap_block(e, bi);

	item_set_hash(&b->item[slot], hash);
	b->state[slot] |= RMAP_FOLLOWED;
}

void merge_bind(struct engine *e, uint32_t bi, unsigned int slot, uint32_t node)
{
	rmap_set(e, bi, slot, RMAP_ORDERED, node);
	mark_followed(e, bi, slot, stable_node(&e->stable, node)->hash);
}

/* A VOLATILE page that was just read and hashed: look for its like. */
void merge_page(struct scan_worker *w, struct engine *e, uint32_t bi, unsigned int slot,
		uint64_t hash, bool zero, int nid, unsigned int page)
{
	struct rmap_block *b = rmap_block(e, bi);
	int root = tree_root(e, nid);
	uint32_t node, partner;
	bool followed = false;

	item_set_hash(&b->item[slot], hash);
	if (zero && knob_get(e->knobs, KNOB_USE_ZERO_PAGES)) {
		rmap_set(e, bi, slot, RMAP_ORDERED, RMAP_ZERO);
		return;
	}
	node = stable_pick(&e->stable, root, hash, limit_of_node(e));
	if (node != NIL) {
		rmap_set(e, bi, slot, RMAP_ORDERED, node);
		return;
	}
	partner = unstable_find(e, root, hash);
	if (partner == NIL) {
		partner = follow_partner(w, page);
		followed = partner != NIL;
	}
	if (partner == NIL) {
		rmap_set(e, bi, slot, RMAP_UNSTABLE, (uint32_t)root);
	} else if (merge_pair(w, e, bi, slot, hash, partner, nid, page)) {
		if (followed)
			mark_followed(e, partner / BLOCK_PAGES, partner % BLOCK_PAGES, hash);
	} else {
		/* No frame. The page backs off, for it is hashed again until there is one. */
		rmap_age(b, slot);
		rmap_pend(e, bi, slot, true);
	}
}

/*
 * A full node has lost a site: if a page of this content waits in the unstable tree (it came when
 * all frames were full), it takes the place. Change tracking never shows a calm page again, so
 * without this it would wait for ever.
 */
void merge_refill(struct engine *e, uint32_t node)
{
	struct stable_node *n = stable_node(&e->stable, node);
	uint32_t i;

	if (n->state != STABLE_LIVE || n->nr_items + n->nr_ordered + 1 != limit_of_node(e) ||
	    n->filling == STABLE_FILL_FAILED || knob_get(e->knobs, KNOB_RUN) != KSM_RUN_MERGE)
		return;
	i = unstable_find(e, n->root, n->hash);
	if (i != NIL)
		rmap_set(e, i / BLOCK_PAGES, i % BLOCK_PAGES, RMAP_ORDERED, node);
}

/* --- new frames --- */

/* Bytes of the worker's new frames, in as few calls as they are contiguous in buffer and arena. */
static void write_frames(struct scan_worker *w, struct engine *e)
{
	struct fill *f = &w->fill;
	uint32_t i, to;

	for (i = 0; i < f->nr; i = to) {
		for (to = i + 1;
		     to < f->nr && f->frame[to] == f->frame[to - 1] + 1 &&
		     f->page[to] == f->page[to - 1] + 1 &&
		     pool_nid(&e->pool, f->frame[to]) == pool_nid(&e->pool, f->frame[i]);
		     to++)
			;
		memset(f->failed + i,
		       e->ops->frame_write(e->arena, f->frame[i], w->buf + f->page[i] * PAGE_BYTES,
					   to - i) < 0,
		       to - i);
	}
}

/* Nothing of it was sent, so all that is bound to a node without bytes is on the ready lists. */
static void unbind_failed(struct mm_slot *mm, uint32_t bi)
{
	struct engine *e = mm->e;
	struct rmap_block *b = rmap_block(e, bi);
	uint64_t m;

	for (m = b->ready; m; m &= m - 1) {
		unsigned int slot = (unsigned int)__builtin_ctzll(m);
		uint32_t node = b->item[slot].s.node;

		if (node == RMAP_ZERO ||
		    stable_node(&e->stable, node)->filling != STABLE_FILL_FAILED)
			continue;
		rmap_set(e, bi, slot, RMAP_VOLATILE, 0);
		rmap_age(b, slot);
		rmap_pend(e, bi, slot, true);
	}
}

static void unbind_all_failed(struct engine *e)
{
	struct mm_slot *mm;
	uint32_t bi, next;
	int list;

	cds_list_for_each_entry(mm, &e->mms, list)
		for (list = READY_NEW; list <= READY_OLD; list++)
			for (bi = mm->blocks[list].first; bi != NIL; bi = next) {
				next = rmap_block(e, bi)->link[LINK_READY].next;
				unbind_failed(mm, bi);
			}
}

void merge_fill(struct scan_worker *w, struct engine *e)
{
	struct fill *f = &w->fill;
	struct stable_node *n;
	bool failed = false;
	uint32_t i;

	if (!f->nr)
		return;
	write_frames(w, e);
	engine_lock(e);
	for (i = 0; i < f->nr; i++) {
		stable_node(&e->stable, f->node[i])->filling = f->failed[i] ? STABLE_FILL_FAILED :
									      STABLE_FILLED;
		failed |= f->failed[i];
	}
	if (failed)
		unbind_all_failed(e);
	for (i = 0; i < f->nr; i++) {
		n = stable_node(&e->stable, f->node[i]);
		n->filling = STABLE_FILLED;
		/* All who wanted it may have gone meanwhile. */
		if (!n->nr_items && !n->nr_ordered)
			engine_drop_node(e, f->node[i]);
	}
	f->nr = 0;
	engine_unlock(e);
}

/*
 * A page that is alone on a frame nobody was told of: its partner was refused or has gone. Back into
 * the unstable tree, where the frame's content must not stand a second time: the node goes first.
 */
void merge_unbind_lonely(struct engine *e, uint32_t bi, unsigned int slot)
{
	uint32_t root = stable_node(&e->stable, rmap_block(e, bi)->item[slot].s.node)->root;
	bool followed = rmap_block(e, bi)->state[slot] & RMAP_FOLLOWED;

	rmap_set(e, bi, slot, RMAP_VOLATILE, 0);
	/* Where it was a guess, its hash is one, too. */
	if (!followed &&
	    unstable_find(e, (int)root, item_hash(&rmap_block(e, bi)->item[slot])) == NIL)
		rmap_set(e, bi, slot, RMAP_UNSTABLE, root);
	else
		rmap_pend(e, bi, slot, false);
}
