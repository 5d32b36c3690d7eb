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
#include "base/usdt.h"
#include "engine/allow.h"
#include "engine/crowd.h"
#include "engine/page.h"
#include "engine/unstable.h"

static void drop_node(struct engine *e, uint32_t node) NEEDS(e->lock)
{
	struct stable_node *n = stable_node(&e->stable, node);
	bool filled = n->filling != STABLE_NEVER_FILLED;
	uint32_t frame = n->frame;

	if ((n->filling && filled) || n->isolated)
		return; /* whoever writes its bytes, or has it isolated, touches it again */
	USDT(ksm_remove_ksm_page, (uint64_t)frame);
	if (n->told) {
		stable_retire(&e->stable, node, e->epoch);
		pool_retire(&e->pool, frame);
		return;
	}
	stable_free(&e->stable, node);
	pool_free(&e->pool, POOL_NO_CACHE, frame, 1, filled); /* else it has no memory */
}

static bool may_merge(const struct engine *e) NEEDS(e->lock);
static bool may_merge(const struct engine *e)
{
	return knob_get(e->knobs, KNOB_RUN) == KSM_RUN_MERGE && !engine_rests(e);
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

	if (!stable_takes(n, knob_get(e->knobs, KNOB_MAX_PAGE_SHARING)) ||
	    n->filling == STABLE_FILL_FAILED || knob_get(e->knobs, KNOB_RUN) != KSM_RUN_MERGE)
		return;
	i = crowd_find(e, n->root, n->hash);
	if (i != NIL) {
		crowd_touch(e, i);
		return;
	}
	i = unstable_find(e, n->root, n->hash);
	if (i == NIL)
		return;
	if (may_merge(e) && allow_debt(e, 1)) {
		page_set(e, i / BLOCK_PAGES, i % BLOCK_PAGES, RMAP_ORDERED, node);
		return;
	}
	page_set(e, i / BLOCK_PAGES, i % BLOCK_PAGES, RMAP_VOLATILE, 0);
	page_pend(e, i / BLOCK_PAGES, i % BLOCK_PAGES, false); /* it finds the node then */
}

/* --- crowds --- */

/* Bind its pages to frames of its contents, as many as these take. Those were read, all of them. */
static void bind_crowd(struct engine *e, uint32_t c) NEEDS(e->lock)
{
	const struct crowd *crowd = crowd_at(e, c);
	uint32_t limit = knob_get(e->knobs, KNOB_MAX_PAGE_SHARING), node, i;

	while (crowd->nr) {
		node = stable_pick(&e->stable, crowd->root, crowd->hash, limit);
		if (node == NIL || stable_node(&e->stable, node)->filling > STABLE_FILLING)
			return;
		if (!allow_debt(e, 1)) {
			e->crowds.halted = true;
			return;
		}
		i = crowd_item(e, c, NIL);
		page_set(e, i / BLOCK_PAGES, i % BLOCK_PAGES, RMAP_ORDERED, node);
	}
}

/* A page of a ripe crowd is to be read, so that a new frame can be filled with what it has then. */
static void have_one_read(struct engine *e, uint32_t c) NEEDS(e->lock)
{
	uint32_t i = crowd_item(e, c, NIL);

	if (!(rmap_block(e, i / BLOCK_PAGES)->pending & bit64(i % BLOCK_PAGES)))
		page_pend(e, i / BLOCK_PAGES, i % BLOCK_PAGES, false);
}

/* The crowd's last page has nobody to wait for any more. */
static void disband(struct engine *e, uint32_t c) NEEDS(e->lock)
{
	uint32_t i = crowd_item(e, c, NIL);

	page_set(e, i / BLOCK_PAGES, i % BLOCK_PAGES, RMAP_UNSTABLE, crowd_at(e, c)->root);
}

/*
 * Contents that too few hold wait on. Once enough do, their random time begins; when it is over
 * they are merged.
 */
static void settle_crowd(struct engine *e, uint32_t c) NEEDS(e->lock)
{
	struct crowd *crowd = crowd_at(e, c);

	if (!crowd->nr) {
		crowd_free(e, c);
		return;
	}
	if (!crowd_enough(e, c)) {
		crowd_set_raw(e, c);
		if (crowd->nr == 1)
			disband(e, c);
		return;
	}
	if (!may_merge(e)) {
		e->crowds.halted = true;
		return;
	}
	if (!crowd->ripe && knob_get(e->knobs, KNOB_MERGE_DELAY_MILLISECS)) {
		if (!crowd->timed)
			crowd_start_wait(e, c);
		return;
	}
	if (!crowd->ripe)
		crowd_set_ripe(e, c);
	bind_crowd(e, c);
	if (engine_rests(e))
		return;
	if (crowd->nr == 1)
		disband(e, c); /* no frame has room for it, and one alone gets none */
	else if (crowd->nr)
		have_one_read(e, c);
}

static void settle_nodes(struct engine *e) NEEDS(e->lock)
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

static void settle(struct engine *e) NEEDS(e->lock)
{
	uint32_t c;

	settle_nodes(e);
	while ((c = crowd_next_touched(e)) != NIL)
		settle_crowd(e, c);
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
