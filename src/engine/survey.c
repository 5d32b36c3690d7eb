/* SPDX-License-Identifier: MIT */
/*
 * survey.c - trees follow pages and frames that have gone to another NUMA node.
 *
 * The kernel moves pages for balancing, cpusets, compaction, or because it was told to. That is no
 * write, so change tracking shows nothing. With a pair of trees for each node, what has moved is
 * looked for in the wrong tree for ever. So the daemon has all of it asked about from time to time.
 *
 * Nor is it a write that a node gets memory, or is not to be used any more: its pages count for
 * another one then (engine_set_home()), and those that wait stand in the tree that was theirs. So a
 * round is due, and one that is under way begins anew, as it has passed some of them.
 *
 * A page that waits in a tree or a crowd, and lies elsewhere now, is taken out and hashed again.
 * For a frame the page is asked about that is first on the list of its sites. If that lies
 * elsewhere, the frame itself is looked at through the arena, because the site may have been
 * written since: then it is no site any more, and says nothing of the frame.
 *
 * What is kept of a page or a frame is brought near to where it is walked by the same rounds
 * (record.c).
 *
 * Safe because the node of a content says only in which tree it is looked for. Sites, orders and
 * numbers stay as they are when a stable node changes trees, so the reverse map can be walked at
 * every instant. A node that is isolated is the mover's and is left alone; while a frame is looked
 * at with the lock released, its node is isolated, so that it keeps its frame.
 */
#include "engine/core.h"
#include "engine/crowd.h"
#include "engine/page.h"
#include "engine/record.h"
#include "engine/settle.h"
#include "engine/unstable.h"

#define VISIT 1024u /* blocks looked at under one hold of the lock */
/* What copying records costs: of a node with each site, and of a block with the pages in it. */
#define COPY_NODE 1u
#define COPY_BLOCK BLOCK_PAGES
#define COPY_MAX 8192u /* under one hold: half a millisecond; the rest has to wait for a round */

/* Pages of one block that are asked about. */
struct looked {
	struct mm_slot *mm; /* counted; NULL: none */
	uint32_t bi, key;
	uint32_t copied; /* what copying records has cost, in pages that could have been asked */
	unsigned int nr;
	uint8_t slot[BLOCK_PAGES];
	uint64_t addr[BLOCK_PAGES];
	int nid[BLOCK_PAGES];
};

/* Frames whose first site lies elsewhere. Their nodes are isolated. */
struct doubted {
	unsigned int nr;
	uint32_t node[BLOCK_PAGES], frame[BLOCK_PAGES];
	int nid[BLOCK_PAGES];
};

/* Does it matter on which node the page lies? */
static bool matters(struct engine *e, const struct rmap_block *b, uint32_t item) NEEDS(e->lock)
{
	unsigned int slot = item % BLOCK_PAGES;
	const struct stable_node *n;

	switch (rmap_state(b, slot)) {
	case RMAP_UNSTABLE:
	case RMAP_WAITING:
		return !e->merge_across;
	case RMAP_MERGED:
		n = stable_node(&e->stable, b->item[slot].s.node);
		return n->first == item && !n->isolated && !n->filling && !n->away;
	default:
		return false;
	}
}

static void choose(struct engine *e, uint32_t bi, struct looked *l) NEEDS(e->lock)
{
	const struct rmap_block *b = rmap_block(e, bi);

	for (uint64_t m = b->tracked; m; m &= m - 1) {
		unsigned int slot = low_bit(m);

		if (!matters(e, b, item_index(bi, slot)))
			continue;
		l->slot[l->nr] = (uint8_t)slot;
		l->addr[l->nr++] = block_pn(b, slot) * PAGE_BYTES;
	}
	if (!l->nr)
		return;
	l->bi = bi;
	l->key = b->key;
	l->mm = block_mm(b);
	mm_get(l->mm);
}

/* Returns what it has cost. */
static uint32_t node_follows(struct engine *e, uint32_t node) NEEDS(e->lock)
{
	uint32_t to = record_follow_node(e, node);

	return to == node ? 0 : COPY_NODE + stable_node(&e->stable, to)->nr_items;
}

/* The same of a block and of the nodes of which the first site is there. Returns the block. */
static uint32_t records_follow(struct engine *e, uint32_t bi, uint32_t *cost) NEEDS(e->lock)
{
	uint32_t to = record_follow_block(e, bi);
	const struct rmap_block *b = rmap_block(e, to);

	if (!e->blocks.memory)
		return bi;
	*cost += to == bi ? 0 : COPY_BLOCK;
	for (uint64_t m = b->tracked; m && *cost < COPY_MAX; m &= m - 1) {
		unsigned int slot = low_bit(m);
		uint32_t node = b->item[slot].s.node;

		if (rmap_state(b, slot) == RMAP_MERGED &&
		    stable_node(&e->stable, node)->first == item_index(to, slot))
			*cost += node_follows(e, node);
	}
	return to;
}

/* The next block with pages to ask about. False: the round is over. */
static bool next_block(struct engine *e, struct looked *l)
{
	bool more = true;

	l->nr = l->copied = 0;
	l->mm = NULL;
	engine_lock(e);
	if (!e->survey_next)
		e->survey_due = false;
	for (uint32_t n = 0; n + l->copied < VISIT && !l->nr && more; n++) {
		more = e->survey_next < e->blocks.nr_chunks * SLAB_CHUNK;
		if (more && slab_is_used(&e->blocks, e->survey_next))
			choose(e, records_follow(e, e->survey_next, &l->copied), l);
		e->survey_next = more ? e->survey_next + 1 : 0;
	}
	engine_unlock(e);
	return more;
}

/* Tree that a page in the unstable tree or in a crowd stands in. */
static int root_of(struct engine *e, uint32_t item) NEEDS(e->lock)
{
	const struct rmap_block *b = rmap_block(e, item / BLOCK_PAGES);

	if (rmap_state(b, item % BLOCK_PAGES) == RMAP_WAITING)
		return crowd_at(e, rmap_item(e, item)->s.node)->root;
	return unstable_root(e, item);
}

/* The pages were asked about. Those that have moved are hashed again; frames are doubted. */
static void take_answers(struct engine *e, const struct looked *l, struct doubted *d) NEEDS(e->lock)
{
	const struct rmap_block *b;

	d->nr = 0;
	if (!slab_is_used(&e->blocks, l->bi))
		return;
	b = rmap_block(e, l->bi);
	if (block_mm(b) != l->mm || b->key != l->key)
		return;
	for (unsigned int i = 0; i < l->nr; i++) {
		unsigned int slot = l->slot[i];
		uint32_t item = item_index(l->bi, slot), node = b->item[slot].s.node;

		if (l->nid[i] < 0 || l->nid[i] >= e->nr_nodes || !(b->tracked & bit64(slot)) ||
		    !matters(e, b, item))
			continue;
		if (rmap_state(b, slot) != RMAP_MERGED) {
			if (root_of(e, item) == tree_root(e, e->home[l->nid[i]]))
				continue;
			page_set(e, l->bi, slot, RMAP_VOLATILE, 0);
			page_pend(e, l->bi, slot, false);
			e->total.pages_followed++;
		} else if (stable_node(&e->stable, node)->nid != l->nid[i] &&
			   stable_isolate(&e->stable, node)) {
			d->node[d->nr] = node;
			d->frame[d->nr++] = stable_node(&e->stable, node)->frame;
		}
	}
}

/* Where the frames lie is known now, or NID_UNKNOWN. */
static void take_frames(struct engine *e, const struct doubted *d) NEEDS(e->lock)
{
	for (unsigned int i = 0; i < d->nr; i++) {
		int nid = d->nid[i];

		stable_putback(&e->stable, d->node[i]);
		if (nid < 0 || nid >= e->nr_nodes ||
		    nid == stable_node(&e->stable, d->node[i])->nid)
			continue;
		page_node_moved(e, d->node[i], nid);
		e->total.frames_followed++;
	}
}

/* After they were put back, which settled them, so that some may have gone. */
static void doubted_follow(struct engine *e, const struct doubted *d) NEEDS(e->lock)
{
	for (unsigned int i = 0; i < d->nr; i++) {
		uint32_t node = pool_word(&e->pool, d->frame[i]);

		if (node == d->node[i])
			node_follows(e, node);
	}
}

static void look_at_frames(struct engine *e, struct doubted *d)
{
	e->ops->frame_nids(e->arena, d->frame, d->nr, d->nid);
	engine_lock(e);
	take_frames(e, d);
	engine_unlock(e);
	engine_lock(e);
	doubted_follow(e, d);
	engine_unlock(e);
}

static void ask(struct engine *e, struct looked *l)
{
	struct doubted d;

	e->ops->nid(l->mm->client, l->addr, (int)l->nr, l->nid);
	engine_lock(e);
	take_answers(e, l, &d);
	engine_unlock(e);
	if (d.nr)
		look_at_frames(e, &d);
	mm_put(l->mm);
}

bool engine_survey(struct engine *e, uint32_t nr)
{
	bool more = true;

	for (uint32_t asked = 0; more && asked < nr; asked++) {
		struct looked l;

		more = next_block(e, &l);
		asked += l.nr + l.copied;
		if (l.mm)
			ask(e, &l);
	}
	return !more;
}

bool engine_survey_due(struct engine *e)
{
	bool due;

	engine_lock(e);
	due = e->survey_due;
	engine_unlock(e);
	return due;
}

void engine_set_home(struct engine *e, int nid, int to)
{
	engine_lock(e);
	if (tree_root(e, e->home[nid]) != tree_root(e, to) &&
	    e->nr_state[RMAP_UNSTABLE] + e->nr_state[RMAP_WAITING]) {
		e->survey_due = true;
		e->survey_next = 0;
	}
	e->home[nid] = (uint8_t)to;
	engine_unlock(e);
}
