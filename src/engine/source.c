/* SPDX-License-Identifier: MIT */
/*
 * source.c - which stable nodes a job of the mover is about, and where their pages are to go.
 *
 * Frames are walked in the order of their numbers. New ones are wished for in the same order, so
 * what was one mapping in a client mostly stays one. A client's pages are walked block by block.
 * Nodes come and go meanwhile; who comes late finds the place empty, and what comes behind the walk
 * is no part of the job. Each number is visited once, so a job ends.
 */
#include "engine/source.h"

#define VISIT 8192u        /* frame numbers looked at under one hold of the lock */
#define VISIT_BLOCKS 1024u /* the same of blocks */

/* Items of all clients' blocks: numbers of a client's walk. */
static uint32_t nr_items(const struct engine *e)
{
	return e->blocks.nr_chunks * SLAB_CHUNK * BLOCK_PAGES;
}

static uint32_t end_of(const struct engine *e, const struct source *s) NEEDS(e->lock)
{
	switch (s->kind) {
	case SOURCE_RANGE:
		return s->end - s->first;
	case SOURCE_CLIENT:
		return nr_items(e);
	default:
		return (uint32_t)pool_nr_frames(&e->pool);
	}
}

static bool wanted(const struct source *s, const struct stable_node *n)
{
	switch (s->kind) {
	case SOURCE_RANGE:
		return !s->way || relocation_of(s->way, n->frame) != POOL_NONE;
	case SOURCE_NODE:
		return n->nid == s->from;
	case SOURCE_CLIENT:
		return n->nid != s->to || n->away;
	default:
		return n->meets;
	}
}

/* The first frame from `f` on that is in use and may be to be moved, if it is below `stop`. */
static uint32_t used_frame(struct engine *e, const struct source *s, uint32_t f, uint32_t stop)
	NEEDS(e->lock)
{
	uint32_t i;

	if (!s->way)
		return pool_next_used(&e->pool, f, stop);
	i = relocation_index(s->way, f);
	return i < s->way->nr && s->way->at[i].from < stop ? s->way->at[i].from : POOL_NONE;
}

static uint32_t next_frame(struct engine *e, const struct source *s, uint32_t *at) NEEDS(e->lock)
{
	uint32_t end = end_of(e, s), span = s->way ? end : VISIT; /* the way is short */
	uint32_t stop = end - *at > span ? *at + span : end;

	while (*at < stop) {
		uint32_t f = used_frame(e, s, s->first + *at, s->first + stop), node;

		*at = f == POOL_NONE ? stop : f - s->first + 1;
		node = f == POOL_NONE ? POOL_NONE : pool_word(&e->pool, f);
		if (node != POOL_NONE && wanted(s, stable_node(&e->stable, node)))
			return node;
	}
	return NIL;
}

static uint32_t next_site(struct engine *e, const struct source *s, uint32_t *at) NEEDS(e->lock)
{
	uint32_t end = end_of(e, s);
	uint32_t stop = end - *at > VISIT_BLOCKS * BLOCK_PAGES ? *at + VISIT_BLOCKS * BLOCK_PAGES :
								 end;

	while (*at < stop) {
		uint32_t bi = *at / BLOCK_PAGES, slot = *at % BLOCK_PAGES;
		const struct rmap_block *b;

		if (!slab_is_used(&e->blocks, bi) ||
		    block_mm(rmap_block(e, bi))->serial != s->serial) {
			*at += BLOCK_PAGES - slot;
			continue;
		}
		b = rmap_block(e, bi);
		++*at;
		if (rmap_state(b, slot) == RMAP_MERGED &&
		    wanted(s, stable_node(&e->stable, b->item[slot].s.node)))
			return b->item[slot].s.node;
	}
	return NIL;
}

uint32_t source_next(struct engine *e, const struct source *s, uint32_t *at)
{
	if (source_ended(e, s, *at))
		return NIL;
	return s->kind == SOURCE_CLIENT ? next_site(e, s, at) : next_frame(e, s, at);
}

bool source_ended(const struct engine *e, const struct source *s, uint32_t at)
{
	return at >= end_of(e, s);
}

int source_to(const struct source *s, const struct stable_node *n)
{
	if (s->kind == SOURCE_TWINS)
		return n->nid;
	/* A frame that does not lie on the node of its number changes that alone. */
	if (s->kind == SOURCE_RANGE && n->nid != s->from)
		return n->nid;
	return s->to;
}

void source_where(const struct engine *e, const struct source *s, const struct stable_node *n,
		  struct stable_where w[2])
{
	uint32_t end = (uint32_t)pool_nr_frames(&e->pool);
	int nid = source_to(s, n);

	w[0] = (struct stable_where){ 0, end, nid };
	w[1] = (struct stable_where){ 0, 0, nid };
	if (s->kind == SOURCE_RANGE) {
		w[0].end = s->way ? 0 : s->first;
		w[1] = (struct stable_where){ s->end, s->way ? 0 : end, nid };
	}
}

bool source_is_split(struct engine *e, const struct source *s, uint32_t node)
{
	uint32_t item = stable_node(&e->stable, node)->first;

	if (s->kind != SOURCE_CLIENT)
		return false;
	while (item != NIL && block_mm(rmap_block(e, item / BLOCK_PAGES))->serial == s->serial)
		item = rmap_item(e, item)->s.next;
	return item != NIL;
}

uint64_t source_frames(struct engine *e, const struct source *s)
{
	struct pool_counts c;

	switch (s->kind) {
	case SOURCE_RANGE:
		pool_counts(&e->pool, s->from, &c);
		return c.used;
	case SOURCE_NODE:
		return e->stable.nr_on[s->from];
	case SOURCE_CLIENT:
		return s->nr_sites;
	default:
		return e->stable.nr_meets;
	}
}
