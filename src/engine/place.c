/* SPDX-License-Identifier: MIT */
/*
 * place.c - frames change their NUMA node, and nothing else.
 *
 * The kernel can move a frame under all of its mappings at once, if the daemon has the right
 * (CAP_SYS_NICE): also in clients that are stopped, and in forks that nobody sees. Numbers, sites
 * and mappings stay as they are, and no client is asked. So what is only to lie elsewhere is moved
 * in this way first, and re-pointed (migrate.c) where the kernel does not.
 *
 * Safe because the kernel moves bytes and mappings together. Meanwhile the nodes are isolated, so
 * that they keep their frames: mapping a frame that has gone would fill a hole. What the kernel
 * answers is not believed; where the frames lie is asked afterwards. It moves whole folios, so
 * neighbours may have come along; the survey sees these.
 */
#include "engine/place.h"
#include "engine/page.h"
#include "engine/settle.h"

#define VISIT 8192u    /* frame numbers looked at under one hold of the lock */
#define AT_A_TIME 256u /* frames; a move takes one to four microseconds each */

struct batch {
	uint32_t nr, node[AT_A_TIME], frame[AT_A_TIME];
	int nid[AT_A_TIME];
};

static bool wanted(const struct place *p, const struct stable_node *n)
{
	return n->nid == p->from && (p->from != p->to || n->away);
}

static void collect(struct engine *e, struct place *p, struct batch *b) NEEDS(e->lock)
{
	uint32_t end = pool_nr_frames(&e->pool);
	uint32_t stop = end - p->next > VISIT ? p->next + VISIT : end;

	b->nr = 0;
	while (b->nr < AT_A_TIME && p->next < stop) {
		uint32_t f = pool_next_used(&e->pool, p->next, stop), node;

		p->next = f == POOL_NONE ? stop : f + 1;
		node = f == POOL_NONE ? POOL_NONE : pool_word(&e->pool, f);
		if (node == POOL_NONE || !wanted(p, stable_node(&e->stable, node)) ||
		    !stable_isolate(&e->stable, node))
			continue;
		b->node[b->nr] = node;
		b->nid[b->nr] = NID_UNKNOWN;
		b->frame[b->nr++] = f;
	}
}

/* With the lock released. */
static int move(struct engine *e, const struct place *p, struct batch *b)
{
	int err = 0;

	for (uint32_t i = 0, to; i < b->nr; i = to) {
		int r;

		for (to = i + 1;
		     to < b->nr && b->frame[to] == b->frame[to - 1] + 1 && to - i < KSM_ORDER_PAGES;
		     to++)
			;
		r = e->ops->frame_move(e->arena, b->frame[i], to - i, p->to, b->nid + i);
		err = r ? r : err;
	}
	return err;
}

static void note(struct engine *e, struct place *p, const struct batch *b) NEEDS(e->lock)
{
	for (uint32_t i = 0; i < b->nr; i++) {
		stable_putback(&e->stable, b->node[i]);
		if (b->nid[i] != p->to) {
			p->not_placed++;
			continue;
		}
		page_node_moved(e, b->node[i], p->to);
		p->placed++;
	}
}

void place_step(struct engine *e, struct place *p)
{
	struct batch b;

	engine_lock(e);
	collect(e, p, &b);
	engine_unlock(e);
	if (!b.nr)
		return;
	p->refused = move(e, p, &b) != 0;
	engine_lock(e);
	note(e, p, &b);
	engine_unlock(e);
}

bool engine_bring_back(struct engine *e, int nid, uint64_t *placed)
{
	struct place p = { .from = nid, .to = nid, .next = e->bring_next };

	place_step(e, &p);
	if (p.refused || p.not_placed)
		p.next = pool_nr_frames(&e->pool); /* not now */
	e->bring_next = p.next < pool_nr_frames(&e->pool) ? p.next : 0;
	*placed += p.placed;
	return !e->bring_next;
}
