/* SPDX-License-Identifier: MIT */
/*
 * settle.c - what follows for stable nodes from what happened to their pages.
 *
 * A page that changes its state only notes which node it left (stable_touch()). When the lock is
 * let go, engine_unlock() looks at each of these nodes once: it gives up a node that no page is
 * left at, and lets one that was full take in a page that waits.
 *
 * Safe because it acts on what is true at the end. A node that loses its last page and gets another
 * under the same lock is never seen empty, and stays (node_filled_again in test_merge.c). When the
 * setter itself acted, the caller had to pin the node that it was about to use, and a page's state
 * could change while another's was being set.
 */
#include "engine/settle.h"
#include "engine/allow.h"
#include "engine/page.h"
#include "engine/unstable.h"

static void drop_node(struct engine *e, uint32_t node) NEEDS(e->lock)
{
	struct stable_node *n = stable_node(&e->stable, node);
	bool filled = n->filling != STABLE_NEVER_FILLED;
	uint32_t frame = n->frame;

	if (n->filling && filled)
		return; /* a worker is writing its bytes, and touches it again afterwards */
	if (n->told) {
		stable_retire(&e->stable, node, e->epoch);
		return;
	}
	stable_free(&e->stable, node);
	pool_free(&e->pool, frame);
	if (filled)
		e->ops->frame_free(e->arena, frame, 1); /* else it has no memory to give back */
}

/*
 * A full node has lost a site: if a page of this content waits in the unstable tree (it came when
 * all frames were full), it takes the place. Change tracking never shows a calm page again, so
 * without this it would wait for ever.
 */
static void refill(struct engine *e, uint32_t node) NEEDS(e->lock)
{
	const struct stable_node *n = stable_node(&e->stable, node);
	uint32_t i;

	if (n->nr_items + n->nr_ordered >= knob_get(e->knobs, KNOB_MAX_PAGE_SHARING) ||
	    n->filling == STABLE_FILL_FAILED || knob_get(e->knobs, KNOB_RUN) != KSM_RUN_MERGE)
		return;
	i = unstable_find(e, n->root, n->hash);
	if (i != NIL)
		page_set(e, i / BLOCK_PAGES, i % BLOCK_PAGES, RMAP_ORDERED, node);
}

static void settle(struct engine *e) NEEDS(e->lock)
{
	uint32_t node;

	while ((node = stable_next_touched(&e->stable)) != NIL) {
		const struct stable_node *n = stable_node(&e->stable, node);

		if (n->state != STABLE_LIVE)
			continue;
		if (!n->nr_items && !n->nr_ordered)
			drop_node(e, node);
		else
			refill(e, node);
	}
}

void engine_lock(struct engine *e)
{
	lock_take(&e->lock);
}

void engine_unlock(struct engine *e)
{
	settle(e);
	allow_less(e);
	lock_give(&e->lock);
}
