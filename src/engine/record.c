/* SPDX-License-Identifier: MIT */
/*
 * record.c - records of pages and frames follow them to another NUMA node.
 *
 * A record is made in memory of the node whose scan threads walk it (slab.h). Later its client goes
 * to another node, or its frame does. The survey, which visits all of them from time to time, has
 * those that lie elsewhere copied. On a machine with one node, and where nodes are pretended, all
 * memory is one place, and nothing is ever copied.
 *
 * A record's index says in which place it lies, so a copy has another one, and all that names the
 * old one is set right: of a block its client's table, lists and order, and for each page the tree
 * or the list that it is in; of a stable node its tree, the list of dups, its sites, and the word
 * of its frame.
 *
 * Safe because all of this is done under one hold of the lock, and because nobody who lets go of
 * the lock keeps an index, except of what is left alone here:
 * - A block can be dropped whenever the lock is free, so everybody looks for it anew, by its key.
 *   Only a job that moves one client's pages walks over blocks by their numbers, and would miss
 *   one that comes to lie behind it: meanwhile none is copied.
 * - A stable node that is isolated or filled is named by whoever has it, and one that pages are
 *   ordered to by these pages, of which there is no list. One that was touched waits to be settled.
 *   Those who sort nodes into other trees walk over them by their numbers (across.c).
 *
 * What cannot be copied stays where it is, and is right there: only farther away. The next round
 * tries again.
 */
#include "engine/record.h"

#include "engine/block.h"
#include "engine/crowd.h"
#include "engine/unstable.h"

/* --- blocks --- */

/* Whoever leads to the item `from`, which is a site or waits in a crowd, leads to its copy. */
static void relink_listed(struct engine *e, uint32_t from, uint32_t to, uint32_t *first)
	NEEDS(e->lock)
{
	struct rmap_item *it = rmap_item(e, to);

	/* Not as it was copied: its neighbours on the list may be of the same block. */
	*it = *rmap_item(e, from);
	*(it->s.prev == NIL ? first : &rmap_item(e, it->s.prev)->s.next) = to;
	if (it->s.next != NIL)
		rmap_item(e, it->s.next)->s.prev = to;
}

static void relink_item(struct engine *e, uint32_t from, uint32_t to) NEEDS(e->lock)
{
	const struct rmap_item *it = rmap_item(e, from);

	switch (rmap_state(rmap_block(e, from / BLOCK_PAGES), from % BLOCK_PAGES)) {
	case RMAP_UNSTABLE:
		unstable_replace(e, from, to);
		break;
	case RMAP_WAITING:
		relink_listed(e, from, to, crowd_first(e, from));
		break;
	case RMAP_MERGED:
		relink_listed(e, from, to, &stable_node(&e->stable, it->s.node)->first);
		break;
	default: /* nothing leads to it */
		break;
	}
}

uint32_t record_follow_block(struct engine *e, uint32_t bi)
{
	const struct rmap_block *b = rmap_block(e, bi);
	const struct mm_slot *mm = block_mm(b);
	uint32_t to;

	if (mm->reader == NID_UNKNOWN || e->migrate[ENGINE_JOB_CLIENT] ||
	    !slab_is_elsewhere(&e->blocks, bi, (unsigned int)mm->reader))
		return bi;
	to = slab_alloc(&e->blocks, (unsigned int)mm->reader);
	if (to == SLAB_NIL)
		return bi;
	*rmap_block(e, to) = *b;
	for (uint64_t m = b->tracked; m; m &= m - 1)
		relink_item(e, item_index(bi, low_bit(m)), item_index(to, low_bit(m)));
	block_replace(e, bi, to);
	slab_free(&e->blocks, bi);
	return to;
}

/* --- stable nodes --- */

/* Is there nobody who keeps its number while the lock is free, and has nobody touched it by now? */
static bool may_leave(const struct engine *e, const struct stable_node *n) NEEDS(e->lock)
{
	return n->state == STABLE_LIVE && !n->isolated && !n->filling && !n->nr_ordered &&
	       !n->touched && !e->resort;
}

uint32_t record_follow_node(struct engine *e, uint32_t node)
{
	const struct stable_node *n = stable_node(&e->stable, node);
	uint32_t to = SLAB_NIL;

	if (slab_is_elsewhere(&e->stable.nodes, node, n->nid) && may_leave(e, n))
		to = slab_alloc(&e->stable.nodes, n->nid);
	if (to == SLAB_NIL)
		return node;
	stable_replace(&e->stable, node, to);
	for (uint32_t i = n->first; i != NIL; i = rmap_item(e, i)->s.next)
		rmap_item(e, i)->s.node = to;
	pool_set_word(&e->pool, n->frame, to);
	slab_free(&e->stable.nodes, node);
	return to;
}
