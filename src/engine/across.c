/* SPDX-License-Identifier: MIT */
/* across.c - the knob merge_across_nodes: one set of trees for all nodes, or one for each. */
#include "engine/across.h"
#include "engine/core.h"
#include "engine/page.h"

/* Everything back to "to be hashed": the trees are to be cut differently. */
static void unstable_reset(struct engine *e)
{
	uint32_t r;

	for (r = 0; r < (uint32_t)e->nr_nodes * CTREE_SHARDS; r++)
		while (e->unstable_root[r] != NIL) {
			uint32_t i = e->unstable_root[r];

			page_set(e, i / BLOCK_PAGES, i % BLOCK_PAGES, RMAP_VOLATILE, 0);
			page_pend(e, i / BLOCK_PAGES, i % BLOCK_PAGES, false);
		}
}

/*
 * Take the knob merge_across_nodes over. It says which tree a content stands in, so it can only
 * change while no tree has stable nodes; the store was refused otherwise, but orders that were
 * under way then may have made some since. Unique pages are sorted anew.
 */
void across_take(struct engine *e)
{
	bool want = knob_get(e->knobs, KNOB_MERGE_ACROSS_NODES);

	if (want == e->merge_across || e->stable.nr_live)
		return;
	unstable_reset(e);
	e->merge_across = want;
}
