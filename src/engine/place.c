/* SPDX-License-Identifier: MIT */
/*
 * place.c - frames that could not be made on their NUMA node are brought there.
 *
 * The kernel can move a frame under all of its mappings at once (migrate.c says more). Numbers,
 * sites, mappings and trees stay as they are, and no client is asked.
 *
 * Safe because the kernel moves bytes and mappings together. Meanwhile the nodes are isolated, so
 * that they keep their frames: mapping a frame that has gone would fill a hole.
 */
#include "engine/core.h"
#include "engine/page.h"
#include "engine/settle.h"

#define VISIT 8192u /* frame numbers looked at under one hold of the lock */
#define AT_A_TIME 256u

struct batch {
	uint32_t nr, node[AT_A_TIME], frame[AT_A_TIME];
	int nid[AT_A_TIME];
};

/* Takes nodes whose frames are away from `nid`; -1: from any. Returns where to go on. */
static uint32_t collect(struct engine *e, int nid, uint32_t at, struct batch *b) NEEDS(e->lock)
{
	uint32_t end = (uint32_t)pool_nr_frames(&e->pool);
	uint32_t stop = end - at > VISIT ? at + VISIT : end;

	b->nr = 0;
	while (b->nr < AT_A_TIME && at < stop) {
		uint32_t f = pool_next_used(&e->pool, at, stop), node;
		const struct stable_node *n;

		at = f == POOL_NONE ? stop : f + 1;
		node = f == POOL_NONE ? POOL_NONE : pool_word(&e->pool, f);
		if (node == POOL_NONE)
			continue;
		n = stable_node(&e->stable, node);
		if ((nid >= 0 && n->nid != nid) || !n->away || !stable_isolate(&e->stable, node))
			continue;
		b->node[b->nr] = node;
		b->nid[b->nr] = NID_UNKNOWN;
		b->frame[b->nr++] = f;
	}
	return at;
}

/* Returns how many lie there now. */
static uint32_t note(struct engine *e, int nid, const struct batch *b) NEEDS(e->lock)
{
	uint32_t placed = 0;

	for (uint32_t i = 0; i < b->nr; i++) {
		stable_putback(&e->stable, b->node[i]);
		if (b->nid[i] != nid)
			continue;
		page_node_moved(e, b->node[i], nid);
		placed++;
	}
	return placed;
}

bool engine_bring_back(struct engine *e, int nid, uint64_t *placed)
{
	uint32_t next, end = (uint32_t)pool_nr_frames(&e->pool), nr = 0;
	struct batch b;

	engine_lock(e);
	next = collect(e, nid, e->bring_next, &b);
	engine_unlock(e);
	if (b.nr) {
		e->ops->frame_move(e->arena, b.frame, b.nr, nid, b.nid);
		engine_lock(e);
		nr = note(e, nid, &b);
		engine_unlock(e);
	}
	/* Where one stays the node is full, or we have no right: not now. */
	e->bring_next = nr == b.nr && next < end ? next : 0;
	*placed += nr;
	return !e->bring_next;
}

void engine_count_away(struct engine *e, int nid)
{
	uint32_t at = 0, end = (uint32_t)pool_nr_frames(&e->pool);
	struct batch b;
	bool any;

	engine_lock(e);
	any = e->stable.nr_away > 0;
	engine_unlock(e);
	while (any && at < end) {
		engine_lock(e);
		at = collect(e, -1, at, &b);
		engine_unlock(e);
		if (b.nr)
			e->ops->frame_nids(e->arena, b.frame, b.nr, b.nid);
		engine_lock(e);
		note(e, nid, &b);
		engine_unlock(e);
	}
}
