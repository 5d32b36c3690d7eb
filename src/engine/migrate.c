/* SPDX-License-Identifier: MIT */
/*
 * migrate.c - the mover: what stands on the frames of one node goes to frames of another.
 *
 * A frame that is in use cannot simply be copied and given back, because clients map it. So the
 * mover works as the kernel's page migration does, in three steps for each stable node:
 *
 * isolate   No page joins the node any more, and it is not dropped. A node is isolated once:
 *           whoever finds it isolated leaves it alone.
 * migrate   Each site is ordered to a node of the same contents whose frame is where it is wanted:
 *           one that stands there already and has room (a collision), or a new one, whose frame
 *           gets a copy of the bytes. The agent carries the order out like one for any page that
 *           lies in a mapping of frames: it holds the page still, compares every byte, and maps the
 *           new frame over it. The site changes its node when the agent says that it has (order.c).
 * putback   A node that has lost all sites goes, and its frame waits for its grace period. Any
 *           other takes pages again: it stays, as a dup where the contents have other frames.
 *
 * Safe because a site belongs to its old node until the outcome is there, and counts as an order of
 * the new one: neither frame can go under a mapping, whatever the agent does or leaves. An agent
 * that never answers keeps its page on the old frame and costs a reservation on the new one, as any
 * order does. A page that was written meanwhile differs from the new frame and is left alone, and
 * tracking reports the write; or it is equal again, and is merged. No member of the domain learns
 * anything: the bytes of the new frame stood on a frame of this arena before.
 *
 * It ends: each frame number of the zone is visited once, a node that makes no progress for
 * PATIENCE_MS is put back, an order that went unanswered for that long keeps its client from being
 * asked again, and the job as a whole has a limit.
 *
 * Frames are visited in the order of their numbers, and new ones are wished for in the same order,
 * so what was one mapping in a client mostly stays one.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/migrate.h"
#include "engine/allow.h"
#include "engine/order.h"
#include "engine/page.h"
#include "engine/settle.h"

#define WINDOW 512u        /* nodes under way at a time, for each job */
#define WINDOW_SITES 8192u /* and no more when these have so many sites: a millisecond's work */
#define MARKED_MAX 4096u   /* sites of one node that are ordered at a time */
#define VISIT 8192u        /* frame numbers looked at under one hold of the lock */
#define PATIENCE_MS 2000u  /* without progress a node is put back */
#define FIRST_RETRY_MS 8u  /* what failed is tried again after this, then twice that, and so on */
#define JOB_MS 10000u      /* and this for every JOB_FRAMES that the zone has in use */
#define JOB_FRAMES 10000u

/* A node that is isolated. */
struct move {
	uint32_t node;
	uint32_t left;     /* sites, when it was looked at last */
	uint64_t since_ms; /* of its last progress */
	uint64_t retry_ms, backoff_ms;
	uint32_t frame;
	uint32_t copy;  /* new frame that is being filled; POOL_NONE: none */
	uint32_t to;    /* node that its sites are to be ordered to now, or NIL */
	bool collides;  /* such a node is there already */
	bool placed;    /* sites have been ordered to one */
	bool unsent;    /* some orders have to wait */
	bool no_memory; /* there was no frame for it when it was looked at last */
};

struct migrate {
	struct migrate_range of;
	uint32_t next;     /* frames from here on are still to be visited */
	uint32_t last;     /* the new frame that was made last */
	uint64_t limit_ms; /* 0: not known yet */
	uint64_t frames;   /* used at the start */
	bool full;         /* no more nodes are taken up for now */
	uint32_t nr;
	struct move move[WINDOW];
	struct engine_migrated done;
};

/* --- the job --- */

static struct migrate *job_new(struct engine *e, const struct migrate_range *r) NEEDS(e->lock)
{
	struct migrate *j = calloc(1, sizeof(*j));
	struct pool_counts c;

	if (!j)
		return NULL;
	pool_counts(&e->pool, r->from, &c);
	j->of = *r;
	j->next = r->first;
	j->last = POOL_NONE;
	j->frames = c.used;
	count_bytes(e, sizeof(*j));
	return j;
}

int migrate_begin(struct engine *e, const struct migrate_range *r)
{
	if (e->migrate[r->from])
		return -EALREADY;
	e->migrate[r->from] = job_new(e, r);
	return e->migrate[r->from] ? 0 : -ENOMEM;
}

static int begin_all(struct engine *e, int from, int to) NEEDS(e->lock)
{
	struct migrate_range all = { .from = from, .to = to };

	all.first = (uint32_t)from * e->pool.zone_frames;
	all.end = all.first + e->pool.zone_frames;
	return migrate_begin(e, &all);
}

int engine_migrate(struct engine *e, int from, int to)
{
	int err;

	if (from < 0 || from >= e->nr_nodes || to < 0 || to >= e->nr_nodes || from == to)
		return -EINVAL;
	engine_lock(e);
	err = node_is_free(e, from) ? 0 : -EALREADY;
	if (!err && e->compact[from])
		e->migrate_next[from] = (uint8_t)(to + 1);
	else if (!err)
		err = begin_all(e, from, to);
	engine_unlock(e);
	return err;
}

void engine_migrate_end(struct engine *e, int from)
{
	engine_lock(e);
	e->migrate_next[from] = 0;
	if (e->migrate[from]) {
		e->migrate[from]->limit_ms = 1;
		e->migrate[from]->next = e->migrate[from]->of.end;
	}
	engine_unlock(e);
}

void migrate_free(struct engine *e)
{
	for (int nid = 0; nid < ENGINE_NODES; nid++)
		free(e->migrate[nid]);
}

/* --- putback --- */

/* The slot of the window gets the last one's move. */
static void putback(struct engine *e, struct migrate *j, uint32_t i) NEEDS(e->lock)
{
	stable_putback(&e->stable, j->move[i].node);
	j->move[i] = j->move[--j->nr];
}

static void blame(struct migrate *j, uint32_t frame, uint32_t client, enum engine_move_failed why)
{
	j->done.failed[why]++;
	j->done.culprit = (struct engine_culprit){ frame, client, why };
}

/*
 * Why the first site that is left has not moved. What was sent stays sent: its outcome is right
 * whenever it comes.
 */
static void give_up(struct engine *e, struct migrate *j, uint32_t i) NEEDS(e->lock)
{
	struct move *m = &j->move[i];
	const struct stable_node *n = stable_node(&e->stable, m->node);
	enum engine_move_failed why = m->no_memory ? MOVE_NO_MEMORY : MOVE_REFUSED;
	uint32_t client = 0;

	for (uint32_t item = n->first; item != NIL; item = rmap_item(e, item)->s.next) {
		const struct rmap_block *b = rmap_block(e, item / BLOCK_PAGES);
		struct mm_slot *mm = block_mm(b);

		if (b->inflight & bit64(item % BLOCK_PAGES))
			mm->move_silent = true;
		else
			page_move_end(e, item / BLOCK_PAGES, item % BLOCK_PAGES);
		if (item == n->first || mm->move_silent) {
			client = mm->id;
			if (mm->move_silent)
				why = MOVE_SILENT;
			else if (!m->no_memory && mm->move_failed)
				why = mm->move_failed;
		}
	}
	if (n->first == NIL)
		why = MOVE_IN_USE; /* an order for it, or a page that waits for one */
	blame(j, n->frame, client, why);
	putback(e, j, i);
}

/* May the frame be moved, or moved once more? */
static bool has_target(const struct migrate *j, uint32_t frame)
{
	return !j->of.way || relocation_of(j->of.way, frame) != POOL_NONE;
}

/* --- isolate --- */

static bool isolate(struct engine *e, struct migrate *j, uint32_t node, uint64_t now) NEEDS(e->lock)
{
	if (!stable_isolate(&e->stable, node))
		return false;
	j->move[j->nr++] = (struct move){
		.node = node,
		.frame = stable_node(&e->stable, node)->frame,
		.left = stable_node(&e->stable, node)->nr_items,
		.since_ms = now,
		.backoff_ms = FIRST_RETRY_MS,
		.copy = POOL_NONE,
		.to = NIL,
	};
	return true;
}

/* The first frame from j->next on that is in use and to be moved, if it is below `stop`. */
static uint32_t next_frame(const struct engine *e, const struct migrate *j, uint32_t stop)
{
	uint32_t i;

	if (!j->of.way)
		return pool_next_used(&e->pool, j->next, stop);
	i = relocation_index(j->of.way, j->next);
	return i < j->of.way->nr && j->of.way->at[i].from < stop ? j->of.way->at[i].from :
								   POOL_NONE;
}

static void isolate_more(struct engine *e, struct migrate *j, uint64_t now) NEEDS(e->lock)
{
	uint32_t span = j->of.way ? j->of.end : VISIT; /* the way is short */
	uint32_t stop = j->of.end - j->next > span ? j->next + span : j->of.end;
	uint64_t sites = 0;

	for (uint32_t i = 0; i < j->nr; i++)
		sites += j->move[i].left;
	while (j->nr < WINDOW && sites < WINDOW_SITES && j->next < stop) {
		uint32_t f = next_frame(e, j, stop), node;

		j->next = f == POOL_NONE ? stop : f + 1;
		node = f == POOL_NONE ? POOL_NONE : pool_word(&e->pool, f);
		if (node != POOL_NONE && has_target(j, f) && isolate(e, j, node, now))
			sites += j->move[j->nr - 1].left;
	}
	j->full = j->next < stop;
}

/* --- migrate: where to --- */

/* Node of the same contents that stands where it is to go to, and has room; or NIL. */
static uint32_t find(struct engine *e, const struct migrate *j, const struct move *m) NEEDS(e->lock)
{
	uint32_t first = (uint32_t)j->of.to * e->pool.zone_frames;
	uint32_t end = first + e->pool.zone_frames,
		 limit = knob_get(e->knobs, KNOB_MAX_PAGE_SHARING);
	uint64_t hash = stable_node(&e->stable, m->node)->hash;
	int root = tree_root(e, j->of.to);
	uint32_t n = NIL;

	if (j->of.way)
		return NIL;
	if (j->of.from != j->of.to)
		return stable_pick_in(&e->stable, root, hash, limit, first, end);
	if (j->of.first > first)
		n = stable_pick_in(&e->stable, root, hash, limit, first, j->of.first);
	if (n == NIL && j->of.end < end)
		n = stable_pick_in(&e->stable, root, hash, limit, j->of.end, end);
	return n;
}

/* Is there a site that can be ordered? */
static bool movable(const struct engine *e, const struct stable_node *n) NEEDS(e->lock)
{
	uint32_t item = n->first;

	while (item != NIL && block_mm(rmap_block(e, item / BLOCK_PAGES))->move_silent)
		item = rmap_item(e, item)->s.next;
	return item != NIL;
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

/* Have a frame for a new node, unless there is a node. */
static void choose(struct engine *e, struct migrate *j, struct move *m) NEEDS(e->lock)
{
	m->collides = find(e, j, m) != NIL;
	m->no_memory = false;
	if (m->collides)
		return;
	m->copy = take_frame(e, j, m);
	m->no_memory = m->copy == POOL_NONE;
	if (!m->no_memory)
		j->last = m->copy;
}

/* Look at a node of the window. False: it has been put back. */
static bool look(struct engine *e, struct migrate *j, uint32_t i, uint64_t now) NEEDS(e->lock)
{
	struct move *m = &j->move[i];
	const struct stable_node *n = stable_node(&e->stable, m->node);

	if (!n->nr_items && !n->nr_ordered) {
		j->done.frames += m->placed;
		putback(e, j, i);
		return false;
	}
	if (n->nr_items < m->left) {
		m->since_ms = now;
		m->backoff_ms = FIRST_RETRY_MS;
	}
	m->left = n->nr_items;
	if (now - m->since_ms >= PATIENCE_MS || now >= j->limit_ms) {
		give_up(e, j, i);
		return false;
	}
	if (n->nr_items && !n->nr_moving && !movable(e, n)) {
		give_up(e, j, i);
		return false;
	}
	if (n->nr_items && !n->nr_moving && now >= m->retry_ms) {
		if (!has_target(j, m->frame)) {
			give_up(e, j, i);
			return false;
		}
		choose(e, j, m);
		m->retry_ms = now + m->backoff_ms;
		m->backoff_ms *= 2;
	}
	return true;
}

/* --- migrate: bytes --- */

/* With the lock released: an isolated node keeps its frame, and nobody knows the new one. */
static void copy_all(struct engine *e, struct migrate *j, bool *failed)
{
	for (uint32_t i = 0, to; i < j->nr; i = to) {
		to = i + 1;
		if (j->move[i].copy == POOL_NONE)
			continue;
		while (to < j->nr && j->move[to].copy == j->move[to - 1].copy + 1 &&
		       j->move[to].frame == j->move[to - 1].frame + 1)
			to++;
		if (e->ops->frame_copy(e->arena, j->move[i].frame, j->move[i].copy, to - i))
			for (uint32_t k = i; k < to; k++)
				failed[k] = true;
	}
}

/* The new frame gets a node, unless it is no longer wanted. */
static void adopt_copy(struct engine *e, struct migrate *j, struct move *m, bool failed)
	NEEDS(e->lock)
{
	const struct stable_node *n = stable_node(&e->stable, m->node);
	uint32_t frame = m->copy;

	m->copy = POOL_NONE;
	e->nr_copying--;
	/* A dup of it, or another mover, may have been there first. */
	m->collides = n->nr_items && find(e, j, m) != NIL;
	if (!failed && n->nr_items && !m->collides)
		m->to = stable_new(&e->stable, tree_root(e, j->of.to), j->of.to, n->hash, frame);
	if (m->to == NIL) {
		m->no_memory = n->nr_items && !m->collides;
		pool_free(&e->pool, POOL_NO_CACHE, frame, 1, true);
		return;
	}
	pool_set_word(&e->pool, frame, m->to);
	stable_touch(&e->stable, m->to); /* a page may wait in the unstable tree; or none comes */
}

/* --- migrate: orders --- */

/* Sites of a node of the window go to its destination, as many as that has room for. */
static void mark(struct engine *e, struct move *m) NEEDS(e->lock)
{
	const struct stable_node *n = stable_node(&e->stable, m->node);
	uint32_t limit = knob_get(e->knobs, KNOB_MAX_PAGE_SHARING), nr = 0;

	for (uint32_t item = n->first; item != NIL; item = rmap_item(e, item)->s.next) {
		const struct rmap_block *b = rmap_block(e, item / BLOCK_PAGES);

		if (!stable_takes(stable_node(&e->stable, m->to), limit) || nr++ == MARKED_MAX)
			break;
		if (block_mm(b)->move_silent)
			continue;
		block_mm(b)->move_failed = MOVE_NOT_FAILED;
		page_move(e, item / BLOCK_PAGES, item % BLOCK_PAGES, m->to);
		m->unsent = m->placed = true;
	}
	m->to = NIL;
}

/* A block's order takes the sites of other nodes along, so all are marked before any is sent. */
static void send(struct engine *e, struct move *m) NEEDS(e->lock)
{
	const struct stable_node *n = stable_node(&e->stable, m->node);

	m->unsent = false;
	for (uint32_t item = n->first; item != NIL; item = rmap_item(e, item)->s.next) {
		struct rmap_block *b = rmap_block(e, item / BLOCK_PAGES);
		struct mm_slot *mm = block_mm(b);

		mm_is_of(mm, e);
		if ((b->ready & bit64(item % BLOCK_PAGES)) && !order_now(mm, item / BLOCK_PAGES))
			m->unsent = true;
	}
}

static void order_all(struct engine *e, struct migrate *j) NEEDS(e->lock)
{
	for (uint32_t i = 0; i < j->nr; i++) {
		struct move *m = &j->move[i];

		if (m->collides) {
			m->to = find(e, j, m); /* it may have gone while the lock was free */
			m->collides = false;
			j->done.collisions += m->to != NIL;
		}
		if (m->to != NIL)
			mark(e, m);
	}
	for (uint32_t i = 0; i < j->nr; i++)
		if (j->move[i].unsent)
			send(e, &j->move[i]);
}

/* --- a step --- */

/* Put back what is done, take up what comes next, and choose. True: frames are to be filled. */
static bool prepare(struct engine *e, struct migrate *j, uint64_t now) NEEDS(e->lock)
{
	bool copies = false;

	if (!j->limit_ms)
		j->limit_ms = now + JOB_MS + j->frames * JOB_MS / JOB_FRAMES;
	if (now >= j->limit_ms)
		j->next = j->of.end;
	isolate_more(e, j, now);
	for (uint32_t i = 0; i < j->nr;)
		i += look(e, j, i, now);
	for (uint32_t i = 0; i < j->nr; i++)
		copies |= j->move[i].copy != POOL_NONE;
	return copies;
}

static void finish_copies(struct engine *e, struct migrate *j, const bool *failed) NEEDS(e->lock)
{
	for (uint32_t i = 0; i < j->nr; i++)
		if (j->move[i].copy != POOL_NONE)
			adopt_copy(e, j, &j->move[i], failed[i]);
}

void engine_migrated_add(struct engine_migrated *to, const struct engine_migrated *more)
{
	to->frames += more->frames;
	to->collisions += more->collisions;
	for (int i = 0; i < MOVE_FAILED_NR; i++)
		to->failed[i] += more->failed[i];
	if (more->culprit.why)
		to->culprit = more->culprit;
}

enum engine_migrate migrate_step(struct engine *e, int from, uint64_t now_ms,
				 struct engine_migrated *out)
{
	enum engine_migrate ret = ENGINE_MIGRATE_NONE;
	bool failed[WINDOW] = { false };
	struct migrate *j;

	engine_lock(e);
	j = e->migrate[from];
	if (j && prepare(e, j, now_ms)) {
		engine_unlock(e);
		copy_all(e, j, failed);
		engine_lock(e);
		finish_copies(e, j, failed);
	}
	if (j) {
		order_all(e, j);
		engine_migrated_add(out, &j->done);
		j->done = (struct engine_migrated){ 0 };
		ret = j->full || (j->nr && j->next == j->of.end) ? ENGINE_MIGRATE_WAIT :
								   ENGINE_MIGRATE_MORE;
		if (!j->nr && j->next == j->of.end) {
			e->migrate[from] = NULL;
			free(j);
			count_bytes(e, -(int64_t)sizeof(*j));
			ret = ENGINE_MIGRATE_DONE;
		}
	}
	engine_unlock(e);
	return ret;
}

/* A job that had to wait until compaction gave way begins. True: it still waits. */
static bool waits(struct engine *e, int from)
{
	bool wait;

	engine_lock(e);
	wait = e->migrate_next[from] && e->compact[from];
	if (e->migrate_next[from] && !wait) {
		begin_all(e, from, e->migrate_next[from] - 1); /* or memory is short: none */
		e->migrate_next[from] = 0;
	}
	engine_unlock(e);
	return wait;
}

enum engine_migrate engine_migrate_step(struct engine *e, int from, uint64_t now_ms,
					struct engine_migrated *out)
{
	return waits(e, from) ? ENGINE_MIGRATE_WAIT : migrate_step(e, from, now_ms, out);
}
