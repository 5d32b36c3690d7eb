/* SPDX-License-Identifier: MIT */
/*
 * merge.c - from equal hashes to pages that are bound to a stable node.
 *
 * A page is bound to a stable node (ORDERED, ready), and the daemon sends the bound pages of its
 * block to the client as one order (inflight; order.c), as far as its mappings allow (budget.c).
 * The client compares every byte before it maps a frame, so a wrong guess, from a stale hash or a
 * collision, costs time and nothing else. The worker writes a new frame from the very buffer that
 * it hashed, before any order for it can be sent (fill.c).
 *
 * A node counts its orders (nr_ordered) like sites, so its frame stays while a client may carry an
 * order for it out. When a page is dropped under an order, the client has withdrawn or replaced it
 * and will not, or no longer, map the frame there. A process forked from the client may, so a frame
 * that any client was told of is retired, never freed at once.
 */
#include "engine/merge.h"
#include "engine/crowd.h"
#include "engine/page.h"
#include "engine/unstable.h"

void merge_later(struct engine *e, uint32_t bi, unsigned int slot)
{
	page_age(rmap_block(e, bi), slot);
	page_pend(e, bi, slot, true);
}

/* --- contents that may have to wait (crowd.c) --- */

/* The page, just read, is in a crowd. Returns as merge_page(). */
static uint32_t merge_waiting(struct engine *e, uint32_t bi, unsigned int slot) NEEDS(e->lock)
{
	uint32_t item = item_index(bi, slot), c = rmap_item(e, item)->s.node;
	const struct crowd *crowd = crowd_at(e, c);

	/* Whatever becomes of this page, settle.c looks at the others. */
	crowd_touch(e, c);
	if (!crowd->ripe || !crowd_enough(e, c) ||
	    stable_pick(&e->stable, crowd->root, crowd->hash,
			knob_get(e->knobs, KNOB_MAX_PAGE_SHARING)) != NIL)
		return NIL;
	return crowd_item(e, c, item);
}

/* A crowd for the page, with the partner that it has in the unstable tree. NIL: none is needed. */
static uint32_t gather(struct engine *e, int root, uint64_t hash, bool merged) NEEDS(e->lock)
{
	uint32_t c = crowd_find(e, root, hash), partner;

	if (c != NIL)
		return c;
	partner = unstable_find(e, root, hash);
	if (partner == NIL && !merged)
		return NIL;
	c = crowd_new(e, root, hash);
	if (c != NIL && partner != NIL)
		page_set(e, partner / BLOCK_PAGES, partner % BLOCK_PAGES, RMAP_WAITING, c);
	return c;
}

/*
 * The page, just read, in no tree. `node` has room for it, or is NIL. Returns as merge_page().
 */
static uint32_t merge_or_wait(struct engine *e, uint32_t bi, unsigned int slot, int root,
			      uint32_t node) NEEDS(e->lock)
{
	uint32_t delay = knob_get(e->knobs, KNOB_MERGE_DELAY_MILLISECS), c;
	uint64_t hash = item_hash(&rmap_block(e, bi)->item[slot]);

	if (node != NIL && !delay) {
		page_set(e, bi, slot, RMAP_ORDERED, node);
		return NIL;
	}
	c = gather(e, root, hash, node != NIL);
	if (c == NIL && node == NIL && unstable_find(e, root, hash) == NIL) {
		page_set(e, bi, slot, RMAP_UNSTABLE, (uint32_t)root);
		return NIL;
	}
	if (c == NIL || !crowd_takes(e, c, block_mm(rmap_block(e, bi))->family)) {
		merge_later(e, bi, slot);
		return NIL;
	}
	page_set(e, bi, slot, RMAP_WAITING, c);
	if (!delay && crowd_enough(e, c))
		crowd_set_ripe(e, c);
	return merge_waiting(e, bi, slot);
}

/* A WAITING page was read again. Has it still the contents of its crowd? */
static bool still_waits(const struct engine *e, uint32_t item, uint64_t hash, int root)
	NEEDS(e->lock)
{
	return crowd_at(e, rmap_item(e, item)->s.node)->root == root &&
	       item_hash(rmap_item(e, item)) == hash;
}

/* --- look-up --- */

/* Node that the page can stand on, or NIL: of copies the one that is where it is read. */
static uint32_t pick(struct engine *e, const struct mm_slot *mm, int root, uint64_t hash, int nid)
	NEEDS(e->lock)
{
	uint32_t limit = knob_get(e->knobs, KNOB_MAX_PAGE_SHARING), node = NIL;

	if (e->stable.nr_copies)
		node = stable_pick_on(&e->stable, root, hash, limit,
				      mm->reader == NID_UNKNOWN ? nid : mm->reader);
	return node != NIL ? node : stable_pick(&e->stable, root, hash, limit);
}

uint32_t merge_page(struct engine *e, uint32_t bi, unsigned int slot, uint64_t hash, bool zero,
		    int nid, uint32_t hint)
{
	int root = tree_root(e, nid);
	uint32_t node, partner;

	if (rmap_state(rmap_block(e, bi), slot) == RMAP_WAITING) {
		if (still_waits(e, item_index(bi, slot), hash, root))
			return merge_waiting(e, bi, slot);
		page_set(e, bi, slot, RMAP_VOLATILE, 0);
	}
	item_set_hash(&rmap_block(e, bi)->item[slot], hash);
	if (zero && knob_get(e->knobs, KNOB_USE_ZERO_PAGES)) {
		page_set(e, bi, slot, RMAP_ORDERED, NODE_ZERO);
		return NIL;
	}
	node = pick(e, block_mm(rmap_block(e, bi)), root, hash, nid);
	if (crowds_wanted(e) || e->crowds.slab.nr)
		return merge_or_wait(e, bi, slot, root, node);
	if (node != NIL) {
		page_set(e, bi, slot, RMAP_ORDERED, node);
		return NIL;
	}
	partner = unstable_find(e, root, hash);
	if (partner == NIL)
		partner = hint;
	if (partner == NIL)
		page_set(e, bi, slot, RMAP_UNSTABLE, (uint32_t)root);
	return partner;
}

void merge_leave_out(struct engine *e, uint32_t bi, unsigned int slot)
{
	merge_later(e, bi, slot);
	if (rmap_state(rmap_block(e, bi), slot) == RMAP_VOLATILE)
		page_left_out(e, bi, slot, RMAP_LEFT_ARENA);
}

uint32_t merge_pair(struct engine *e, uint32_t bi, unsigned int slot, uint32_t partner,
		    uint32_t frame, int nid)
{
	uint64_t hash = item_hash(&rmap_block(e, bi)->item[slot]);
	uint32_t p = partner / BLOCK_PAGES, node = NIL;
	unsigned int pslot = partner % BLOCK_PAGES;

	if (frame != POOL_NONE) {
		node = stable_new(&e->stable, tree_root(e, nid), nid, hash, frame);
		if (node == NIL)
			pool_free(&e->pool, POOL_NO_CACHE, frame, 1, false);
	}
	if (node == NIL) {
		merge_later(e, bi, slot);
		return NIL;
	}
	pool_set_word(&e->pool, frame, node);
	stable_node(&e->stable, node)->filling = STABLE_FILLING;
	/* A partner that is in no tree was compared with the page (read.c), and never hashed. */
	item_set_hash(&rmap_block(e, p)->item[pslot], hash);
	page_set(e, p, pslot, RMAP_ORDERED, node);
	page_set(e, bi, slot, RMAP_ORDERED, node);
	return node;
}

void merge_unbind_lonely(struct engine *e, uint32_t bi, unsigned int slot)
{
	const struct rmap_block *b = rmap_block(e, bi);
	uint32_t root = stable_node(&e->stable, b->item[slot].s.node)->root;
	bool guessed = b->state[slot] & RMAP_FOLLOWED;

	page_set(e, bi, slot, RMAP_VOLATILE, 0);
	/* Where it was a guess, its hash is one, too. */
	if (!guessed && unstable_find(e, (int)root, item_hash(&b->item[slot])) == NIL &&
	    crowd_find(e, (int)root, item_hash(&b->item[slot])) == NIL)
		page_set(e, bi, slot, RMAP_UNSTABLE, root);
	else
		page_pend(e, bi, slot, false);
}
