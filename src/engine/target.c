/* SPDX-License-Identifier: MIT */
/*
 * target.c - where what the mover has isolated goes to.
 *
 * To a frame of the same contents, to a new one that gets a copy, or with its own frame. Safe
 * because an isolated node keeps its frame while the lock is free, and nobody knows a new frame
 * until it has its bytes and a node. Where a frame has come to lie is asked, and never concluded
 * from what was wished: a node of the machine may be full.
 */
#include "engine/target.h"

#include "engine/allow.h"

#define COPIED_MAX KSM_ORDER_PAGES /* frames asked about in one call */

uint32_t target_find(struct engine *e, const struct migrate *j, const struct move *m,
		     uint64_t *room)
{
	const struct stable_node *n = node_of(e, m);
	int root = tree_root(e, source_to(&j->of, n));
	uint32_t limit = knob_get(e->knobs, KNOB_MAX_PAGE_SHARING), found;
	struct stable_where w[2];
	uint64_t more;

	*room = 0;
	if (j->of.way)
		return NIL;
	source_where(e, &j->of, n, w);
	found = stable_pick_in(&e->stable, root, n->hash, limit, &w[0], room);
	if (w[1].end) {
		uint32_t other = stable_pick_in(&e->stable, root, n->hash, limit, &w[1], &more);

		*room += more;
		found = found == NIL ? other : found;
	}
	return found;
}

bool target_is_left(const struct migrate *j, uint32_t frame)
{
	return !j->of.way || relocation_of(j->of.way, frame) != POOL_NONE;
}

/* The new frame, which counts as one that gets its bytes; or POOL_NONE. */
static uint32_t take_frame(struct engine *e, struct migrate *j, const struct move *m) NEEDS(e->lock)
{
	uint32_t wish = j->last == POOL_NONE ? POOL_NONE : j->last + 1, f;

	if (j->of.way) {
		struct relocation_frame *to = &j->of.way->at[relocation_index(j->of.way, m->frame)];

		f = to->to;
		to->to = POOL_NONE;
		return f;
	}
	if (!allow_frame(e))
		return POOL_NONE;
	f = pool_alloc(&e->pool, POOL_NO_CACHE, j->of.to, wish, POOL_NONE);
	e->nr_copying += f != POOL_NONE;
	return f;
}

void target_take(struct engine *e, struct migrate *j, struct move *m)
{
	m->copy = take_frame(e, j, m);
	m->no_memory = m->copy == POOL_NONE;
	if (!m->no_memory)
		j->last = m->copy;
}

/* Do the new frames of these continue a run, from the i-th on? */
static bool continues(const struct migrate *j, uint32_t i, uint32_t to)
{
	const struct move *m = &j->move[to];

	return to < j->nr && to - i < COPIED_MAX && m->copy == m[-1].copy + 1 &&
	       m->frame == m[-1].frame + 1 && m->nid == m[-1].nid;
}

/*
 * Fill the new frames, and note where they have come to lie. With the lock released: an isolated
 * node keeps its frame, and nobody knows the new one.
 */
static void copy_all(struct engine *e, struct migrate *j, bool *failed)
{
	uint32_t copy[COPIED_MAX];
	int nids[COPIED_MAX];

	for (uint32_t i = 0, to; i < j->nr; i = to) {
		const struct move *m = &j->move[i];

		to = i + 1;
		if (m->copy == POOL_NONE)
			continue;
		while (continues(j, i, to))
			to++;
		failed[i] = e->ops->frame_copy(e->arena, m->frame, m->copy, to - i, m->nid) != 0;
		for (uint32_t k = i; k < to; k++) {
			copy[k - i] = j->move[k].copy;
			nids[k - i] = m->nid;
		}
		if (!failed[i] && e->nr_nodes > 1)
			e->ops->frame_nids(e->arena, copy, to - i, nids);
		for (uint32_t k = i; k < to; k++) {
			failed[k] = failed[i];
			j->move[k].nid = nids[k - i];
		}
	}
}

/* Have the kernel move frames. With the lock released, as above. */
static void place(struct engine *e, struct migrate *j)
{
	uint32_t nr = 0, k = 0;

	for (uint32_t i = 0; i < j->nr; i++)
		if (j->move[i].place) {
			j->nid[nr] = NID_UNKNOWN;
			j->frame[nr++] = j->move[i].frame;
		}
	if (nr && e->ops->frame_move(e->arena, j->frame, nr, j->of.to, j->nid))
		j->no_right = true;
	for (uint32_t i = 0; i < j->nr; i++)
		if (j->move[i].place)
			j->move[i].nid = j->nid[k++];
}

void target_fill(struct engine *e, struct migrate *j, bool failed[WINDOW])
{
	copy_all(e, j, failed);
	place(e, j);
}

void target_adopt(struct engine *e, struct migrate *j, struct move *m, bool failed)
{
	const struct stable_node *n = node_of(e, m);
	int to = source_to(&j->of, n);
	bool away = m->nid != NID_UNKNOWN && m->nid != to;
	uint32_t frame = m->copy;
	uint64_t room;

	m->copy = POOL_NONE;
	e->nr_copying--;
	failed |= away && j->of.kind != SOURCE_RANGE; /* the node is full */
	/* A dup of it, or another mover, may have been there first. */
	m->left = sites_left(e, j, m);
	m->collides = m->left && target_find(e, j, m, &room) != NIL;
	if (!failed && m->left && !m->collides)
		m->to = stable_new(&e->stable, tree_root(e, to), to, n->hash, frame);
	m->copied = m->to != NIL;
	if (m->to == NIL) {
		m->no_memory = m->left && !m->collides;
		pool_free(&e->pool, POOL_NO_CACHE, frame, 1, true);
		return;
	}
	if (away)
		stable_set_away(&e->stable, m->to);
	pool_set_word(&e->pool, frame, m->to);
	stable_touch(&e->stable, m->to); /* a page may wait in the unstable tree; or none comes */
}
