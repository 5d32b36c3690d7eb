/* SPDX-License-Identifier: MIT */
/*
 * settle.c - what follows for stable nodes from what happened to their pages.
 *
 * A page that changes its state only notes which node it left (stable_touch()). Before the lock is
 * released the nodes are looked at, once each: one that nobody stands on any more is given up, one that
 * was full takes in a page that waits.
 */
#include "engine/settle.h"
#include "engine/core.h"
#include "engine/page.h"
#include "engine/unstable.h"

static uint32_t limit_of_node(const struct engine *e)
{
	return knob_get(e->knobs, KNOB_MAX_PAGE_SHARING);
}

static void drop_node(struct engine *e, uint32_t node)
{
	struct stable_node *n = stable_node(&e->stable, node);
	bool filled = n->filling != STABLE_NEVER_FILLED;
	uint32_t frame = n->frame;

	if (n->filling && filled)
		return; /* its bytes are on their way; merge_fill() comes back to it */
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
static void refill(struct engine *e, uint32_t node)
{
	struct stable_node *n = stable_node(&e->stable, node);
	uint32_t i;

	if (n->state != STABLE_LIVE || n->nr_items + n->nr_ordered >= limit_of_node(e) ||
	    n->filling == STABLE_FILL_FAILED || knob_get(e->knobs, KNOB_RUN) != KSM_RUN_MERGE)
		return;
	i = unstable_find(e, n->root, n->hash);
	if (i != NIL)
		page_set(e, i / BLOCK_PAGES, i % BLOCK_PAGES, RMAP_ORDERED, node);
}

static void settle(struct engine *e)
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
	pthread_mutex_lock(&e->lock);
}

void engine_unlock(struct engine *e)
{
	if (e->stable.touched != NIL)
		settle(e);
	pthread_mutex_unlock(&e->lock);
}
