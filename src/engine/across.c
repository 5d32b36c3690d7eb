/* SPDX-License-Identifier: MIT */
/*
 * across.c - the knob merge_across_nodes: one set of trees for all nodes, or one for each.
 *
 * The knob says which tree a content stands in, so the engine takes a new value over only while no
 * tree has stable nodes. The daemon refuses the store otherwise, but orders that were under way
 * then may have made some since. Unique pages are hashed again and sorted into the new trees.
 */
#include "engine/across.h"
#include "engine/crowd.h"
#include "engine/page.h"

static void empty_unstable(struct engine *e) NEEDS(e->lock)
{
	for (uint32_t r = 0; r < (uint32_t)e->nr_nodes * CTREE_SHARDS; r++)
		while (e->unstable_root[r] != NIL) {
			uint32_t i = e->unstable_root[r];

			page_set(e, i / BLOCK_PAGES, i % BLOCK_PAGES, RMAP_VOLATILE, 0);
			page_pend(e, i / BLOCK_PAGES, i % BLOCK_PAGES, false);
		}
}

static void empty_crowds(struct engine *e) NEEDS(e->lock)
{
	for (uint32_t c = 0; c < e->crowds.slab.nr_chunks * SLAB_CHUNK; c++)
		while (slab_is_used(&e->crowds.slab, c) && crowd_at(e, c)->nr) {
			uint32_t i = crowd_item(e, c, NIL);

			page_set(e, i / BLOCK_PAGES, i % BLOCK_PAGES, RMAP_VOLATILE, 0);
			page_pend(e, i / BLOCK_PAGES, i % BLOCK_PAGES, false);
		}
}

void across_take(struct engine *e)
{
	bool want = knob_get(e->knobs, KNOB_MERGE_ACROSS_NODES);

	if (want == e->merge_across || e->stable.nr_live)
		return;
	empty_unstable(e);
	empty_crowds(e);
	e->merge_across = want;
}
