/* SPDX-License-Identifier: MIT */
/*
 * fill.c - new frames get their bytes.
 *
 * A worker that paired two pages has the bytes in its buffer and writes them to the new frame with
 * the lock released, because writing is as slow as reading. Meanwhile the node is `filling`: other
 * workers may bind pages to it, but nobody sends an order for it, and nobody drops it.
 */
#include <string.h>

#include "engine/fill.h"
#include "engine/merge.h"
#include "engine/page.h"
#include "engine/settle.h"

void fill_add(struct fill *f, const struct engine *e, uint32_t node, uint32_t partner,
	      unsigned int page)
{
	f->node[f->nr] = node;
	f->frame[f->nr] = stable_node(&e->stable, node)->frame;
	f->partner[f->nr] = partner;
	f->page[f->nr++] = (uint8_t)page;
}

/* --- refused pages --- */

/* Is the new frame of use to one page at most? Then that page is unbound, and the node will go. */
static bool give_up(struct engine *e, uint32_t node, uint32_t partner) NEEDS(e->lock)
{
	struct stable_node *n = stable_node(&e->stable, node);
	const struct rmap_block *b = rmap_block(e, partner / BLOCK_PAGES);
	unsigned int slot = partner % BLOCK_PAGES;

	if (!n->nr_ordered) {
		n->filling = STABLE_NEVER_FILLED;
		stable_touch(&e->stable, node);
		return true;
	}
	/* A single page that is not the partner is found to be alone when its order is due. */
	if (n->nr_ordered > 1 || rmap_state(b, slot) != RMAP_ORDERED ||
	    b->item[slot].s.node != node)
		return false;
	n->filling = STABLE_NEVER_FILLED; /* so that it goes with its last page */
	merge_unbind_lonely(e, partner / BLOCK_PAGES, slot);
	return true;
}

void fill_prune(struct fill *f, struct engine *e)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < f->nr; i++) {
		if (give_up(e, f->node[i], f->partner[i]))
			continue;
		f->node[kept] = f->node[i];
		f->frame[kept] = f->frame[i];
		f->partner[kept] = f->partner[i];
		f->page[kept++] = f->page[i];
	}
	f->nr = kept;
}

/* --- bytes --- */

/* Write the frames in as few calls as they are contiguous in buffer and arena. */
static void write_frames(struct fill *f, struct engine *e, const unsigned char *buf)
{
	for (uint32_t i = 0, to; i < f->nr; i = to) {
		int r;

		for (to = i + 1;
		     to < f->nr && f->frame[to] == f->frame[to - 1] + 1 &&
		     f->page[to] == f->page[to - 1] + 1 &&
		     pool_nid(&e->pool, f->frame[to]) == pool_nid(&e->pool, f->frame[i]);
		     to++)
			;
		r = e->ops->frame_write(e->arena, f->frame[i], buf + f->page[i] * PAGE_BYTES,
					to - i);
		memset(f->failed + i, r < 0, to - i);
		for (uint32_t k = i; k < to; k++)
			f->nid[k] = NID_UNKNOWN;
		if (!r && e->nr_nodes > 1)
			e->ops->frame_nids(e->arena, f->frame + i, to - i, f->nid + i);
	}
}

/* Its node was full. */
static bool is_away(const struct engine *e, const struct fill *f, uint32_t i) NEEDS(e->lock)
{
	return f->nid[i] != NID_UNKNOWN && f->nid[i] != stable_node(&e->stable, f->node[i])->nid;
}

/* Nothing of it was sent, so all that is bound to a node without bytes is on the ready lists. */
static void unbind_failed(struct mm_slot *mm, uint32_t bi) NEEDS(mm->e->lock)
{
	struct rmap_block *b = rmap_block(mm->e, bi);

	for (uint64_t m = b->ready; m; m &= m - 1) {
		unsigned int slot = low_bit(m);
		uint32_t node = ordered_node(mm->e, b, slot);

		/* A site never moves to a node that is not filled. */
		if (node == NODE_ZERO ||
		    stable_node(&mm->e->stable, node)->filling != STABLE_FILL_FAILED)
			continue;
		page_set(mm->e, bi, slot, RMAP_VOLATILE, 0);
		page_age(b, slot);
		page_pend(mm->e, bi, slot, true);
	}
}

static void unbind_all_failed(struct engine *e) NEEDS(e->lock)
{
	struct mm_slot *mm;

	cds_list_for_each_entry(mm, &e->mms, list) {
		mm_is_of(mm, e);
		for (int list = READY_NEW; list <= READY_OLD; list++)
			for (uint32_t bi = mm->blocks[list].first, next; bi != NIL; bi = next) {
				next = rmap_block(e, bi)->link[LINK_READY].next;
				unbind_failed(mm, bi);
			}
	}
}

void fill_write(struct fill *f, struct engine *e, const unsigned char *buf)
{
	bool failed = false;

	if (!f->nr)
		return;
	write_frames(f, e, buf);
	engine_lock(e);
	for (uint32_t i = 0; i < f->nr; i++) {
		stable_node(&e->stable, f->node[i])->filling = f->failed[i] ? STABLE_FILL_FAILED :
									      STABLE_FILLED;
		failed |= f->failed[i];
		if (is_away(e, f, i))
			stable_set_away(&e->stable, f->node[i]);
	}
	if (failed)
		unbind_all_failed(e);
	for (uint32_t i = 0; i < f->nr; i++) {
		stable_node(&e->stable, f->node[i])->filling = STABLE_FILLED;
		stable_touch(&e->stable, f->node[i]); /* all its pages may have gone */
	}
	f->nr = 0;
	engine_unlock(e);
}
