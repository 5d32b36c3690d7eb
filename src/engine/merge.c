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

#include "engine/merge.h"
#include "engine/core.h"
#include "engine/layout.h"
#include "engine/page.h"
#include "engine/settle.h"
#include "engine/unstable.h"

/* --- binding --- */

/* A page and its partner from the unstable tree get a frame. False: there is none to be had. */
static bool merge_pair(struct scan_worker *w, struct engine *e, uint32_t bi, unsigned int slot,
		       uint64_t hash, uint32_t partner, int nid, unsigned int page)
{
	uint32_t frame = layout_frame(e, bi, slot, partner, nid), node;
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
	page_set(e, partner / BLOCK_PAGES, partner % BLOCK_PAGES, RMAP_ORDERED, node);
	page_set(e, bi, slot, RMAP_ORDERED, node);
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
	page_set(e, bi, slot, RMAP_ORDERED, node);
	mark_followed(e, bi, slot, stable_node(&e->stable, node)->hash);
}

/* A VOLATILE page that was just read and hashed: look for its like. */
uint32_t merge_page(struct scan_worker *w, struct engine *e, uint32_t bi, unsigned int slot,
		    uint64_t hash, bool zero, int nid, unsigned int page, uint32_t hint)
{
	struct rmap_block *b = rmap_block(e, bi);
	int root = tree_root(e, nid);
	uint32_t node, partner;
	bool followed = false;

	item_set_hash(&b->item[slot], hash);
	if (zero && knob_get(e->knobs, KNOB_USE_ZERO_PAGES)) {
		page_set(e, bi, slot, RMAP_ORDERED, NODE_ZERO);
		return NIL;
	}
	node = stable_pick(&e->stable, root, hash, knob_get(e->knobs, KNOB_MAX_PAGE_SHARING));
	if (node != NIL) {
		page_set(e, bi, slot, RMAP_ORDERED, node);
		return NIL;
	}
	partner = unstable_find(e, root, hash);
	if (partner == NIL) {
		partner = hint;
		followed = partner != NIL;
	}
	if (partner == NIL) {
		page_set(e, bi, slot, RMAP_UNSTABLE, (uint32_t)root);
	} else if (merge_pair(w, e, bi, slot, hash, partner, nid, page)) {
		if (followed)
			mark_followed(e, partner / BLOCK_PAGES, partner % BLOCK_PAGES, hash);
		return partner;
	} else {
		/* No frame. The page backs off, for it is hashed again until there is one. */
		page_age(b, slot);
		page_pend(e, bi, slot, true);
	}
	return NIL;
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

		if (node == NODE_ZERO ||
		    stable_node(&e->stable, node)->filling != STABLE_FILL_FAILED)
			continue;
		page_set(e, bi, slot, RMAP_VOLATILE, 0);
		page_age(b, slot);
		page_pend(e, bi, slot, true);
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
		stable_touch(&e->stable, f->node[i]); /* all who wanted it may have gone */
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

	page_set(e, bi, slot, RMAP_VOLATILE, 0);
	/* Where it was a guess, its hash is one, too. */
	if (!followed &&
	    unstable_find(e, (int)root, item_hash(&rmap_block(e, bi)->item[slot])) == NIL)
		page_set(e, bi, slot, RMAP_UNSTABLE, root);
	else
		page_pend(e, bi, slot, false);
}
