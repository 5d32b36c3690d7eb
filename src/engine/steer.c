/* SPDX-License-Identifier: MIT */
/*
 * steer.c - frames that are there go where merge_policy wants them.
 *
 * Programs move from node to node after their memory was merged, and frames stay where they were
 * made. So rounds go over all frames. For each one numa_policy.c is told what stands on it and
 * where that is read from, and says what it wishes. A wish is carried out by the means that moving
 * a node has as well (place.c, migrate.c):
 *
 * MOVE   The kernel moves the frame under all of its mappings. Where the daemon may not, or the
 *        kernel does not, all its sites are ordered to a new frame there.
 * COPY   The sites of clients that run on a node are ordered to a frame there, a new one if there
 *        is none, or to one that is nearer to them. The others stay.
 * JOIN   All sites are ordered to a frame that is there already; the old one goes.
 *
 * Safe for the same reasons as there: a node is isolated while it is dealt with, a site belongs to
 * its old node until the outcome is there, and the agent compares every byte. Copies hold what
 * stood on a frame of this arena before, so nobody learns anything, and a frame never changes, so
 * no copy is ever out of date.
 *
 * It ends: a round visits each number in use once, and puts back what has not moved after
 * PATIENCE_MS.
 * The next round comes only if something has changed that wishes depend on, or this one moved
 * something. What failed is tried again by the round after that.
 *
 * Rounds stand still while a node is emptied, drained or compacted: who asked for that wants
 * frames elsewhere for now. Nothing is steered to a node that has frames out of use, or to one that
 * is to be empty (engine_set_home()).
 */
#include "engine/steer.h"

#include <stdlib.h>
#include <string.h>

#include "engine/allow.h"
#include "engine/order.h"
#include "engine/page.h"
#include "engine/settle.h"

#define WINDOW 256u       /* nodes under way at a time */
#define VISIT 4096u       /* numbers of frames under one hold of the lock, from one in use on */
#define VISIT_SITES 8192u /* and sites that are looked at: half a millisecond */
#define READERS 256u      /* sites of a node that are looked at; the default max_page_sharing */
#define PATIENCE_MS 2000u

enum stage {
	STEER_PLACE, /* the kernel is to move it */
	STEER_POINT, /* its sites are to be ordered to another frame */
	STEER_SENT,  /* they have been */
};

struct steer_move {
	uint32_t node, frame;
	int to;
	int of; /* COPY: node of the readers */
	enum policy_act act;
	enum stage stage;
	int nid;         /* PLACE: where it lies afterwards */
	uint32_t copy;   /* POINT: the new frame; POOL_NONE: none was needed, or could be had */
	uint32_t left;   /* SENT: sites before */
	uint64_t end_ms; /* SENT: when it is given up */
	bool unsent;     /* some orders have to wait */
	bool failed;
};

struct steer {
	uint32_t next;               /* number that comes next */
	uint32_t last[ENGINE_NODES]; /* the new frame that was made last on each node */
	uint64_t gains[POLICY_GAINS];
	uint64_t closed; /* bit per node: nothing goes there */
	bool pressure, placed_in_vain;
	uint64_t acted;
	uint32_t nr;
	struct steer_move move[WINDOW];
};

/* --- a round --- */

static struct steer_seen now_seen(const struct engine *e, bool pressure) NEEDS(e->lock)
{
	struct steer_seen seen = { .policy = (uint64_t)e->policy.kind << 32 | e->policy.hot };

	if (!policy_steers(e->policy.kind))
		return seen;
	seen.readers = e->reader_changes;
	seen.merged = e->total.pages_merged;
	if (e->policy.kind == POLICY_REPLICATE) {
		seen.policy ^= (uint64_t)knob_get(e->knobs, KNOB_REPLICA_BUDGET_PERCENT) << 48;
		seen.pressure = pressure;
	}
	return seen;
}

/* Does something else move, as somebody asked for? Not what gathers frames at rest. */
static bool others_move(const struct engine *e) NEEDS(e->lock)
{
	for (int nid = 0; nid < e->nr_nodes; nid++) {
		bool rests = e->gathers_at_rest & bit64((unsigned int)nid);

		if (e->drain[nid] || (!rests && (e->migrate[nid] || e->compact[nid])))
			return true;
	}
	return false;
}

static uint64_t closed_nodes(struct engine *e) NEEDS(e->lock)
{
	uint64_t closed = 0;

	for (int nid = 0; nid < e->nr_nodes; nid++) {
		struct pool_counts c;

		pool_counts(&e->pool, nid, &c);
		if (c.offline || e->home[nid] != nid)
			closed |= bit64((unsigned int)nid);
	}
	return closed;
}

static void begin(struct engine *e, bool pressure) NEEDS(e->lock)
{
	struct steer_seen seen = now_seen(e, pressure);
	struct steer *s;

	if (e->nr_nodes == 1 || e->resort || others_move(e) ||
	    (!e->steer_again && !memcmp(&seen, &e->steered, sizeof(seen))))
		return;
	s = calloc(1, sizeof(*s));
	if (!s)
		return;
	count_bytes(e, sizeof(*s));
	for (int nid = 0; nid < e->nr_nodes; nid++)
		s->last[nid] = POOL_NONE;
	s->pressure = pressure;
	s->closed = closed_nodes(e);
	e->steer = s;
	e->steered = seen;
}

/*
 * Most copies: a part of the pages that merging saves, copies left out. `filling` of the copies
 * have no page yet, so they are no shared frames.
 */
static uint64_t copies_budget(const struct engine *e, uint64_t filling) NEEDS(e->lock)
{
	uint64_t copies = e->stable.nr_copies - u64_min(filling, e->stable.nr_copies);
	uint64_t frames = e->stable.nr_shared - u64_min(copies, e->stable.nr_shared);
	uint64_t saved = e->nr_state[RMAP_MERGED] - u64_min(frames, e->nr_state[RMAP_MERGED]);

	return saved * knob_get(e->knobs, KNOB_REPLICA_BUDGET_PERCENT) / 100;
}

static void end(struct engine *e) NEEDS(e->lock)
{
	struct steer *s = e->steer;
	unsigned int least = e->policy.least;

	e->steer_again = s->acted > 0; /* also if it failed */
	if (e->policy.kind == POLICY_REPLICATE) {
		e->policy.least = policy_least(s->gains, copies_budget(e, 0));
		e->steer_again |= e->policy.least != least;
	}
	free(s);
	count_bytes(e, -(int64_t)sizeof(*s));
	e->steer = NULL;
}

void steer_free(struct engine *e)
{
	free(e->steer);
}

/* --- what a node is --- */

static void note_dups(struct engine *e, uint32_t node, struct policy_frame *f) NEEDS(e->lock)
{
	const struct stable_node *n = stable_node(&e->stable, node);
	uint32_t limit = knob_get(e->knobs, KNOB_MAX_PAGE_SHARING), i = n->dup_next;

	for (uint32_t looked = 0; i != node && looked < STABLE_LOOK; looked++) {
		const struct stable_node *d = stable_node(&e->stable, i);

		i = d->dup_next;
		if (d->nid == n->nid || d->filling)
			continue;
		if (d->nr_items > f->there[d->nid])
			f->there[d->nid] = d->nr_items;
		if (!d->isolated && d->nr_items &&
		    d->nr_items + d->nr_ordered + n->nr_items + n->nr_ordered <= limit)
			f->room |= bit64(d->nid);
	}
}

static void describe(struct engine *e, uint32_t node, struct policy_frame *f) NEEDS(e->lock)
{
	const struct stable_node *n = stable_node(&e->stable, node);
	uint32_t looked = 0;

	*f = (struct policy_frame){ .hash = n->hash, .nid = n->nid, .sharers = n->nr_items };
	for (uint32_t i = n->first; i != NIL && looked < READERS; looked++) {
		const struct mm_slot *mm = block_mm(rmap_block(e, i / BLOCK_PAGES));

		if (mm->reader != NID_UNKNOWN)
			f->reader[mm->reader]++;
		i = rmap_item(e, i)->s.next;
	}
	note_dups(e, node, f);
}

/* Of two frames of a content, on different nodes: is `a` a copy because of `b`? */
static bool is_less(const struct stable_node *a, const struct stable_node *b)
{
	return a->nr_items < b->nr_items || (a->nr_items == b->nr_items && a->nid > b->nid);
}

/* The largest frame of the node's content that does not lie on NUMA node `not`; NIL: none. */
static uint32_t largest(const struct engine *e, uint32_t node, int not ) NEEDS(e->lock)
{
	const struct stable *s = &e->stable;
	uint32_t best = NIL, i = node;

	for (uint32_t looked = 0; looked < STABLE_LOOK; looked++) {
		if (stable_node(s, i)->nid !=
		    not &&(best == NIL || is_less(stable_node(s, best), stable_node(s, i))))
			best = i;
		i = stable_node(s, i)->dup_next;
		if (i == node)
			break;
	}
	return best;
}

/*
 * Says of all frames of the content whether they are copies (policy_is_copy()). If it were said of
 * one alone, another would be counted wrongly until its own turn, and copies made beyond the budget
 * meanwhile. What no page stands on yet stays what it was made for.
 */
static void mark_copies(struct engine *e, uint32_t node) NEEDS(e->lock)
{
	uint32_t top = largest(e, node, NID_UNKNOWN), other, i = node;
	int nid = stable_node(&e->stable, top)->nid;

	other = largest(e, node, nid);
	for (uint32_t looked = 0; looked < STABLE_LOOK; looked++) {
		const struct stable_node *n = stable_node(&e->stable, i);
		uint32_t than = n->nid == nid ? other : top;

		if (n->nr_items)
			stable_set_copy(&e->stable, i,
					than != NIL && is_less(n, stable_node(&e->stable, than)));
		i = n->dup_next;
		if (i == node)
			break;
	}
}

/* --- the walk --- */

static void count_gain(const struct engine *e, const struct policy_frame *f) NEEDS(e->lock)
{
	uint64_t gain;
	int to;

	if (e->policy.kind != POLICY_REPLICATE || f->sharers < 2)
		return;
	gain = policy_gain(&e->policy, f, &to);
	if (gain && (f->sharers >= e->policy.hot || policy_is_copy(&e->policy, f)))
		e->steer->gains[policy_gain_class(gain)]++;
}

/* A copy that is new, unless there turns out to be one. */
static bool is_made(const struct steer_move *m)
{
	return m->act == POLICY_COPY && m->of == m->to;
}

static struct policy_wish ask(const struct engine *e, const struct policy_frame *f) NEEDS(e->lock)
{
	const struct steer *s = e->steer;
	struct policy_room room = { .copies = e->stable.nr_copies,
				    .budget = copies_budget(e, 0),
				    .pressure = s->pressure };
	uint64_t made = 0, filling = 0;
	struct policy_wish w;

	/*
	 * Those that will be made by this step count already, and those that are being given up no
	 * more; else a whole window of them would go for one beyond the budget.
	 */
	for (uint32_t i = 0; i < s->nr; i++) {
		const struct steer_move *m = &s->move[i];

		made += is_made(m) && m->stage == STEER_POINT;
		filling += is_made(m) && m->stage == STEER_SENT;
		if (m->act == POLICY_JOIN && stable_node(&e->stable, m->node)->copy)
			room.copies -= room.copies > 0;
	}
	room.copies += made;
	w = policy_wish(&e->policy, f, &room);
	/* A new one must fit whatever becomes of those under way; none goes because of these. */
	if (w.act == POLICY_COPY && !f->there[w.to] && room.copies >= copies_budget(e, filling)) {
		room.budget = room.copies;
		w = policy_wish(&e->policy, f, &room);
	}
	if (w.act != POLICY_KEEP && (s->closed >> w.to & 1))
		w.act = POLICY_KEEP;
	return w;
}

/* Returns sites that were looked at. */
static uint32_t visit(struct engine *e, uint32_t frame, uint32_t node) NEEDS(e->lock)
{
	struct stable_node *n = stable_node(&e->stable, node);
	struct steer *s = e->steer;
	struct policy_frame f;
	struct policy_wish w;

	if (n->state != STABLE_LIVE || n->isolated || n->filling || n->nr_moving || !n->nr_items)
		return 1;
	describe(e, node, &f);
	mark_copies(e, node);
	count_gain(e, &f);
	w = ask(e, &f);
	/* One that could not be made on its node is brought back by place.c, when there is room. */
	if (w.act == POLICY_KEEP || (w.act == POLICY_MOVE && n->away) ||
	    !stable_isolate(&e->stable, node))
		return 1 + f.sharers;
	s->move[s->nr++] = (struct steer_move){
		.node = node,
		.frame = frame,
		.to = w.to,
		.of = w.of,
		.act = w.act,
		.stage = w.act == POLICY_MOVE && !s->placed_in_vain ? STEER_PLACE : STEER_POINT,
		.nid = NID_UNKNOWN,
		.copy = POOL_NONE,
	};
	return 1 + f.sharers;
}

static void walk(struct engine *e) NEEDS(e->lock)
{
	struct steer *s = e->steer;
	uint32_t end = pool_nr_frames(&e->pool), left = VISIT_SITES;
	uint32_t next = pool_next_present(&e->pool, s->next), stop;

	/* A zone's span is much larger than what is used of it. */
	s->next = next == POOL_NONE ? end : next;
	stop = end - s->next > VISIT ? s->next + VISIT : end;
	if (others_move(e) || knob_get(e->knobs, KNOB_RUN) != KSM_RUN_MERGE)
		s->next = stop = end;
	while (s->nr < WINDOW && s->next < stop && left) {
		uint32_t f = pool_next_used(&e->pool, s->next, stop), node, sites;

		s->next = f == POOL_NONE ? stop : f + 1;
		node = f == POOL_NONE ? POOL_NONE : pool_word(&e->pool, f);
		if (node == POOL_NONE)
			continue;
		sites = visit(e, f, node);
		left -= sites < left ? sites : left;
	}
}

/* --- new frames --- */

/* Node that its sites can go to, or NIL. An isolated node, as its own, takes none. */
static uint32_t target(struct engine *e, const struct steer_move *m) NEEDS(e->lock)
{
	return stable_pick_on(&e->stable, tree_root(e, m->to),
			      stable_node(&e->stable, m->node)->hash,
			      knob_get(e->knobs, KNOB_MAX_PAGE_SHARING), m->to);
}

/* Frames for what finds none of its contents there. */
static void choose(struct engine *e) NEEDS(e->lock)
{
	struct steer *s = e->steer;

	for (uint32_t i = 0; i < s->nr; i++) {
		struct steer_move *m = &s->move[i];
		uint32_t *last = &s->last[m->to];

		if (m->stage != STEER_POINT || m->act == POLICY_JOIN ||
		    (m->act == POLICY_COPY && !is_made(m)) || target(e, m) != NIL ||
		    !allow_frame(e))
			continue;
		m->copy = pool_alloc(&e->pool, POOL_NO_CACHE, m->to,
				     *last == POOL_NONE ? POOL_NONE : *last + 1, POOL_NONE);
		if (m->copy == POOL_NONE)
			continue;
		*last = m->copy;
		e->nr_copying++;
	}
}

/* With the lock released. Isolated nodes keep their frames, and nobody knows the new ones. */
static void place_and_copy(struct engine *e)
{
	struct steer *s = e->steer;

	for (uint32_t i = 0, to; i < s->nr; i = to) {
		struct steer_move *m = &s->move[i];
		uint32_t frame[KSM_ORDER_PAGES];
		int nid[KSM_ORDER_PAGES];

		to = i + 1;
		if (m->stage == STEER_POINT && m->copy != POOL_NONE)
			m->failed = e->ops->frame_copy(e->arena, m->frame, m->copy, 1, m->to);
		if (m->stage != STEER_PLACE || s->placed_in_vain)
			continue;
		while (to < s->nr && to - i < KSM_ORDER_PAGES && s->move[to].stage == STEER_PLACE &&
		       s->move[to].to == m->to && s->move[to].frame == m->frame + (to - i))
			to++;
		for (uint32_t k = i; k < to; k++)
			frame[k - i] = s->move[k].frame;
		s->placed_in_vain = e->ops->frame_move(e->arena, frame, to - i, m->to, nid);
		for (uint32_t k = i; k < to && !s->placed_in_vain; k++)
			s->move[k].nid = nid[k - i];
	}
}

/* Node that the sites go to. The new frame gets one, unless it is not wanted any more. */
static uint32_t adopt(struct engine *e, struct steer_move *m) NEEDS(e->lock)
{
	const struct stable_node *n = stable_node(&e->stable, m->node);
	uint32_t to = target(e, m), frame = m->copy;
	int root = tree_root(e, m->to);

	m->copy = POOL_NONE;
	if (frame == POOL_NONE)
		return to;
	e->nr_copying--;
	if (to != NIL || m->failed || !n->nr_items) {
		pool_free(&e->pool, POOL_NO_CACHE, frame, 1, true);
		return to;
	}
	to = stable_new(&e->stable, root, m->to, n->hash, frame);
	if (to == NIL) {
		pool_free(&e->pool, POOL_NO_CACHE, frame, 1, true);
		return NIL;
	}
	pool_set_word(&e->pool, frame, to);
	stable_set_copy(&e->stable, to, m->act == POLICY_COPY && root == n->root);
	stable_touch(&e->stable, to); /* a page may wait in the unstable tree; or none comes */
	return to;
}

/* --- orders --- */

static void mark(struct engine *e, struct steer_move *m, uint32_t to) NEEDS(e->lock)
{
	const struct stable_node *n = stable_node(&e->stable, m->node);
	uint32_t limit = knob_get(e->knobs, KNOB_MAX_PAGE_SHARING);

	for (uint32_t i = n->first; i != NIL; i = rmap_item(e, i)->s.next) {
		struct mm_slot *mm = block_mm(rmap_block(e, i / BLOCK_PAGES));

		if (!stable_takes(stable_node(&e->stable, to), limit))
			break;
		if (mm->move_silent || (m->act == POLICY_COPY && mm->reader != m->of))
			continue;
		page_move(e, i / BLOCK_PAGES, i % BLOCK_PAGES, to);
		m->unsent = true;
	}
}

/* A block's order takes the sites of other nodes along, so all are marked before any is sent. */
static void send(struct engine *e, struct steer_move *m) NEEDS(e->lock)
{
	const struct stable_node *n = stable_node(&e->stable, m->node);

	m->unsent = false;
	for (uint32_t i = n->first; i != NIL; i = rmap_item(e, i)->s.next) {
		const struct rmap_block *b = rmap_block(e, i / BLOCK_PAGES);
		struct mm_slot *mm = block_mm(b);

		mm_is_of(mm, e);
		if ((b->ready & bit64(i % BLOCK_PAGES)) && !order_now(mm, i / BLOCK_PAGES))
			m->unsent = true;
	}
}

static void order_all(struct engine *e, uint64_t now) NEEDS(e->lock)
{
	struct steer *s = e->steer;

	for (uint32_t i = 0; i < s->nr; i++) {
		struct steer_move *m = &s->move[i];
		uint32_t to;

		if (m->stage != STEER_POINT)
			continue;
		to = adopt(e, m);
		m->stage = STEER_SENT;
		m->left = stable_node(&e->stable, m->node)->nr_items;
		m->end_ms = now + PATIENCE_MS;
		if (to != NIL)
			mark(e, m, to);
	}
	for (uint32_t i = 0; i < s->nr; i++)
		if (s->move[i].unsent)
			send(e, &s->move[i]);
}

/* --- putback --- */

static void count(struct engine *e, const struct steer_move *m, bool good,
		  struct engine_steered *out) NEEDS(e->lock)
{
	if (!good)
		out->to[m->to].failed++;
	else if (m->act == POLICY_COPY)
		out->to[m->to].copied++;
	else if (m->act == POLICY_JOIN)
		out->to[m->to].joined++;
	else
		out->to[m->to].moved++;
	e->steer->acted++;
}

static void put_back(struct engine *e, uint32_t i) NEEDS(e->lock)
{
	struct steer *s = e->steer;

	stable_putback(&e->stable, s->move[i].node);
	s->move[i] = s->move[--s->nr];
}

/* What was sent stays sent: its outcome is right whenever it comes. */
static void take_back_orders(struct engine *e, const struct stable_node *n) NEEDS(e->lock)
{
	for (uint32_t i = n->first; i != NIL; i = rmap_item(e, i)->s.next) {
		const struct rmap_block *b = rmap_block(e, i / BLOCK_PAGES);

		if (b->inflight & bit64(i % BLOCK_PAGES))
			block_mm(b)->move_silent = true;
		else
			page_move_end(e, i / BLOCK_PAGES, i % BLOCK_PAGES);
	}
}

/* Look at a node of the window. False: it has been put back. */
static bool look(struct engine *e, uint32_t i, uint64_t now, struct engine_steered *out)
	NEEDS(e->lock)
{
	struct steer_move *m = &e->steer->move[i];
	struct stable_node *n = stable_node(&e->stable, m->node);
	bool placed = m->stage == STEER_PLACE && m->nid == m->to;
	uint32_t node = m->node;
	int to = m->to;

	if (m->stage == STEER_PLACE && m->nid == NID_UNKNOWN && e->steer->placed_in_vain)
		m->stage = STEER_POINT;
	if (m->stage == STEER_POINT || (m->stage == STEER_SENT && n->nr_moving && now < m->end_ms))
		return true;
	if (n->nr_moving)
		take_back_orders(e, n);
	count(e, m, m->stage == STEER_PLACE ? placed : n->nr_items < m->left, out);
	put_back(e, i);
	/* It may go to another tree, which only who has put it back may do. */
	if (placed)
		page_node_moved(e, node, to);
	return false;
}

static void look_all(struct engine *e, uint64_t now, struct engine_steered *out) NEEDS(e->lock)
{
	for (uint32_t i = 0; i < e->steer->nr;)
		i += look(e, i, now, out);
}

/* --- a step --- */

enum engine_migrate engine_steer_step(struct engine *e, uint64_t now_ms, bool pressure,
				      struct engine_steered *out)
{
	enum engine_migrate ret = ENGINE_MIGRATE_NONE;

	engine_lock(e);
	if (!e->steer)
		begin(e, pressure);
	if (!e->steer)
		goto out;
	look_all(e, now_ms, out);
	walk(e);
	choose(e);
	engine_unlock(e);
	place_and_copy(e);
	engine_lock(e);
	order_all(e, now_ms);
	/* Placed ones are looked at by the next step. */
	ret = e->steer->nr ? ENGINE_MIGRATE_WAIT : ENGINE_MIGRATE_MORE;
	if (!e->steer->nr && e->steer->next == pool_nr_frames(&e->pool)) {
		end(e);
		ret = ENGINE_MIGRATE_DONE;
	}
out:
	engine_unlock(e);
	return ret;
}
