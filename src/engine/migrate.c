/* SPDX-License-Identifier: MIT */
/*
 * migrate.c - the mover: what lies on one NUMA node goes to another, or leaves a range of frames.
 *
 * A frame that is in use cannot simply be copied and given back, because clients map it. But the
 * kernel can move it under all of its mappings at once, if the daemon has the right (CAP_SYS_NICE):
 * also in clients that are stopped, and in forks that nobody sees. Numbers, sites and mappings stay
 * as they are, and no client is asked. Where the number has to change, or the contents stand at the
 * destination already, or the kernel will not, pages are re-pointed to another frame. So for each
 * stable node that the source (source.c) names:
 *
 * isolate   No page joins the node any more, and it is not dropped. A node is isolated once:
 *           whoever finds it isolated leaves it alone.
 * migrate   Its frame is moved by the kernel (place()), and the node goes to the destination's
 *           tree. Or each site is ordered to a node of the same contents whose frame is where it is
 *           wanted: one that stands there already and has room (a collision), or a new one, whose
 *           frame gets a copy of the bytes. The agent carries the order out like one for any page
 *           that lies in a mapping of frames: it holds the page still, compares every byte, and
 *           maps the new frame over it. The site changes its node when the agent says that it has
 *           (order.c). A node whose sites could not all be re-pointed is moved by the kernel after
 *           all, so that its frame lies where it is wanted.
 * putback   A node that has lost all sites goes, and its frame waits for its grace period. Any
 *           other takes pages again: it stays, as a dup where the contents have other frames.
 *
 * Safe because the kernel moves bytes and mappings together. What it answers is not believed; where
 * the frames lie is asked afterwards. It moves whole folios, so neighbours may have come along; the
 * survey sees these. A site belongs to its old node until the outcome is there, and counts as an
 * order of the new one: neither frame can go under a mapping, whatever the agent does or leaves. An
 * agent that never answers keeps its page on the old frame and costs a reservation on the new one,
 * as any order does. A page that was written meanwhile differs from the new frame and is left
 * alone, and tracking reports the write; or it is equal again, and is merged. No member of the
 * domain learns anything: the bytes of the new frame stood on a frame of this arena before.
 *
 * It ends: each number of the source is visited once, a node that makes no progress for PATIENCE_MS
 * is put back, an order that went unanswered for that long keeps its client from being asked again,
 * and the job as a whole has a limit.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/migrate.h"
#include "engine/job.h"
#include "engine/order.h"
#include "engine/page.h"
#include "engine/settle.h"
#include "engine/target.h"

#define WINDOW_SITES 8192u /* sites of these that are ordered: a millisecond's work */
#define MARKED_MAX 4096u   /* sites of one node that are ordered at a time */
#define PATIENCE_MS 2000u  /* without progress a node is put back */
#define FIRST_RETRY_MS 8u  /* what failed is tried again after this, then twice that ... */
#define JOB_MS 10000u      /* and this for every JOB_FRAMES that the source has */
#define JOB_FRAMES 10000u

/* --- the job --- */

int migrate_begin(struct engine *e, int job, const struct source *s)
{
	struct migrate *j;

	if (e->migrate[job])
		return -EALREADY;
	j = calloc(1, sizeof(*j));
	if (!j)
		return -ENOMEM;
	j->of = *s;
	j->last = POOL_NONE;
	j->frames = source_frames(e, s);
	count_bytes(e, sizeof(*j));
	e->migrate[job] = j;
	return 0;
}

static int begin_all(struct engine *e, int from, int to) NEEDS(e->lock)
{
	const struct source all = { .kind = SOURCE_NODE, .from = from, .to = to };

	return migrate_begin(e, from, &all);
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

int engine_migrate_client(struct mm_slot *mm, int to)
{
	struct source s = { .kind = SOURCE_CLIENT, .to = to, .serial = mm->serial };
	int err;

	if (to < 0 || to >= mm->e->nr_nodes)
		return -EINVAL;
	engine_lock(mm->e);
	s.nr_sites = mm->nr_state[RMAP_MERGED];
	err = migrate_begin(mm->e, ENGINE_JOB_CLIENT, &s);
	engine_unlock(mm->e);
	return err;
}

int engine_migrate_twins(struct engine *e)
{
	const struct source s = { .kind = SOURCE_TWINS };
	int err;

	engine_lock(e);
	err = migrate_begin(e, ENGINE_JOB_TWINS, &s);
	engine_unlock(e);
	return err;
}

bool engine_wants_twins(struct engine *e)
{
	bool wants;

	engine_lock(e);
	wants = e->stable.nr_meets > 0;
	engine_unlock(e);
	return wants;
}

static void end_job(struct migrate *j)
{
	j->limit_ms = 1;
	j->next = UINT32_MAX;
	j->cancelled = true;
}

void engine_migrate_end(struct engine *e, int job)
{
	engine_lock(e);
	if (job < ENGINE_NODES)
		e->migrate_next[job] = 0;
	if (e->migrate[job])
		end_job(e->migrate[job]);
	engine_unlock(e);
}

void migrate_free(struct engine *e)
{
	for (int job = 0; job < ENGINE_JOBS; job++)
		free(e->migrate[job]);
}

/* May the kernel be asked to move the frame? Once for each, and not where the number must go. */
static bool may_place(const struct migrate *j, const struct move *m)
{
	return (j->of.kind == SOURCE_NODE || j->of.kind == SOURCE_CLIENT) && !m->split &&
	       !m->asked && !j->no_right && !j->cancelled;
}

/* --- putback --- */

/* The slot of the window gets the last one's move. */
static void putback(struct engine *e, struct migrate *j, uint32_t i) NEEDS(e->lock)
{
	stable_putback(&e->stable, j->move[i].node);
	j->move[i] = j->move[--j->nr];
}

/* Of a step the last is named, unless memory was short: then nothing else would have helped. */
static void blame(struct migrate *j, uint32_t frame, uint32_t client, enum engine_move_failed why)
{
	j->done.failed[why]++;
	if (j->done.culprit.why != MOVE_NO_MEMORY)
		j->done.culprit = (struct engine_culprit){ frame, client, why };
}

/*
 * Why the first site that is left has not moved. What was sent stays sent: its outcome is right
 * whenever it comes.
 */
static void find_culprit(struct engine *e, const struct migrate *j, struct move *m) NEEDS(e->lock)
{
	const struct stable_node *n = node_of(e, m);
	bool first = true;

	m->why = m->no_memory ? MOVE_NO_MEMORY : MOVE_REFUSED;
	m->client = 0;
	for (uint32_t item = n->first; item != NIL; item = rmap_item(e, item)->s.next) {
		const struct rmap_block *b = rmap_block(e, item / BLOCK_PAGES);
		struct mm_slot *mm = block_mm(b);

		if (!is_ours(j, m, mm))
			continue;
		if (b->inflight & bit64(item % BLOCK_PAGES))
			mm->move_silent = true;
		else
			page_move_end(e, item / BLOCK_PAGES, item % BLOCK_PAGES);
		if (first || mm->move_silent) {
			m->client = mm->id;
			if (mm->move_silent)
				m->why = MOVE_SILENT;
			else if (!m->no_memory && mm->move_failed)
				m->why = mm->move_failed;
		}
		first = false;
	}
	if (first)
		m->why = MOVE_IN_USE; /* an order for it, or a page that waits for one */
}

/*
 * Contents that stay twice on their node may be tried again. They also do so where some sharers of
 * a frame have gone to another one of the node, and some could not: nobody would look at the two
 * for as long as nobody writes, and what they shared would be lost.
 */
static void fail(struct engine *e, struct migrate *j, uint32_t i) NEEDS(e->lock)
{
	const struct move *m = &j->move[i];
	const struct stable_node *n = node_of(e, m);
	uint8_t tries = n->meets;

	if (j->of.kind == SOURCE_TWINS && tries && !j->cancelled)
		stable_set_meets(&e->stable, m->node, (uint8_t)(tries - 1));
	else if (j->of.kind != SOURCE_TWINS && m->placed && n->nr_items &&
		 source_to(&j->of, n) == n->nid)
		stable_set_meets(&e->stable, m->node, STABLE_MEET_TRIES);
	if (j->of.kind != SOURCE_TWINS || tries == 1)
		blame(j, m->frame, m->client, m->why);
	putback(e, j, i);
}

/* No further site moves. False: it has been put back; else the kernel is asked before it is. */
static bool give_up(struct engine *e, struct migrate *j, uint32_t i) NEEDS(e->lock)
{
	struct move *m = &j->move[i];

	find_culprit(e, j, m);
	m->place = may_place(j, m);
	if (!m->place)
		fail(e, j, i);
	return m->place;
}

/* --- isolate --- */

static void isolate(struct engine *e, struct migrate *j, uint32_t node, uint64_t now) NEEDS(e->lock)
{
	struct move *m = &j->move[j->nr];

	if (!stable_isolate(&e->stable, node))
		return;
	*m = (struct move){
		.node = node,
		.frame = stable_node(&e->stable, node)->frame,
		.split = source_is_split(e, &j->of, node),
		.since_ms = now,
		.backoff_ms = FIRST_RETRY_MS,
		.copy = POOL_NONE,
		.nid = NID_UNKNOWN,
		.to = NIL,
	};
	m->left = sites_left(e, j, m);
	j->nr++;
}

static void isolate_more(struct engine *e, struct migrate *j, uint64_t now) NEEDS(e->lock)
{
	uint32_t max = j->moves && !j->no_right ? WINDOW : WINDOW_ORDERED;

	/* A client's walk comes to the same node as often as it has pages there. */
	for (uint32_t n = 0, node; j->nr < max && n < 4 * max; n++) {
		node = source_next(e, &j->of, &j->next);
		if (node == NIL)
			break;
		isolate(e, j, node, now);
	}
	j->full = j->nr >= max;
}

/* --- migrate: where to --- */

/* Is there a site that can be ordered? */
static bool movable(const struct engine *e, const struct migrate *j, const struct move *m)
	NEEDS(e->lock)
{
	uint32_t item = stable_node(&e->stable, m->node)->first;

	for (; item != NIL; item = rmap_item(e, item)->s.next) {
		const struct mm_slot *mm = block_mm(rmap_block(e, item / BLOCK_PAGES));

		if (!mm->move_silent && is_ours(j, m, mm))
			return true;
	}
	return false;
}

/* Have the kernel move it, or find a node, or have a frame for a new one. False: it is put back. */
static bool choose(struct engine *e, struct migrate *j, uint32_t i) NEEDS(e->lock)
{
	struct move *m = &j->move[i];
	uint64_t room;
	bool fits;

	m->collides = target_find(e, j, m, &room) != NIL;
	fits = m->collides && room >= m->left;
	m->no_memory = false;
	if (j->of.kind == SOURCE_TWINS && !fits) {
		/*
		 * max_page_sharing keeps them apart, or the other has gone; unless a mover has the
		 * other, which may be this one. That ends, and the next job finds it.
		 */
		if (!stable_has_busy_dup(&e->stable, m->node))
			stable_set_meets(&e->stable, m->node, 0);
		putback(e, j, i);
		return false;
	}
	m->place = !fits && may_place(j, m);
	if (m->place || m->collides)
		return true;
	target_take(e, j, m);
	return true;
}

static bool is_done(const struct stable_node *n, const struct move *m)
{
	return !m->left && (m->split || !n->nr_ordered);
}

/* Its sites can be ordered now. False: it has been put back. *sites: of those that are ordered. */
static bool go_on(struct engine *e, struct migrate *j, uint32_t i, uint64_t now, uint64_t *sites)
	NEEDS(e->lock)
{
	struct move *m = &j->move[i];

	if (now < m->retry_ms || *sites >= WINDOW_SITES)
		return true;
	if (!movable(e, j, m) || !target_is_left(j, m->frame))
		return give_up(e, j, i);
	m->retry_ms = now + m->backoff_ms;
	m->backoff_ms *= 2;
	if (!choose(e, j, i))
		return false;
	*sites += m->place ? 0 : m->left;
	return true;
}

/* Look at a node of the window. False: it has been put back. */
static bool look(struct engine *e, struct migrate *j, uint32_t i, uint64_t now, uint64_t *sites)
	NEEDS(e->lock)
{
	struct move *m = &j->move[i];
	const struct stable_node *n = node_of(e, m);
	uint32_t left = sites_left(e, j, m);

	if (left < m->left) {
		m->since_ms = now;
		m->backoff_ms = FIRST_RETRY_MS;
	}
	m->left = left;
	if (is_done(n, m)) {
		j->done.frames += m->placed;
		putback(e, j, i);
		return false;
	}
	if (now - m->since_ms >= PATIENCE_MS || now >= j->limit_ms)
		return give_up(e, j, i);
	if (left && !n->nr_moving)
		return go_on(e, j, i, now, sites);
	*sites += n->nr_moving;
	return true;
}

/* Those that have moved go to the tree of their new node. Others are re-pointed, or given up. */
static void note_placed(struct engine *e, struct migrate *j) NEEDS(e->lock)
{
	for (uint32_t i = j->nr; i--;) {
		struct move *m = &j->move[i];
		uint32_t node = m->node;

		if (!m->place)
			continue;
		m->place = false;
		m->asked = true;
		m->retry_ms = 0;
		if (m->nid == j->of.to) {
			putback(e, j, i);
			page_node_moved(e, node, j->of.to);
			j->done.placed++;
			j->moves = true;
		} else if (m->why) {
			fail(e, j, i);
		}
	}
}

/* --- migrate: orders --- */

/* Sites of a node of the window go to its destination, as many as that has room for. */
static void mark(struct engine *e, const struct migrate *j, struct move *m) NEEDS(e->lock)
{
	const struct stable_node *n = stable_node(&e->stable, m->node);
	uint32_t limit = knob_get(e->knobs, KNOB_MAX_PAGE_SHARING), nr = 0;

	for (uint32_t item = n->first; item != NIL; item = rmap_item(e, item)->s.next) {
		const struct rmap_block *b = rmap_block(e, item / BLOCK_PAGES);

		if (!stable_takes(stable_node(&e->stable, m->to), limit) || nr == MARKED_MAX)
			break;
		if (block_mm(b)->move_silent || !is_ours(j, m, block_mm(b)))
			continue;
		block_mm(b)->move_failed = MOVE_NOT_FAILED;
		page_move(e, item / BLOCK_PAGES, item % BLOCK_PAGES, m->to);
		m->unsent = m->placed = true;
		nr++;
	}
	stable_node(&e->stable, m->node)->exact = nr && m->copied;
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
		uint64_t room;

		if (m->collides) {
			/* It may have gone while the lock was free. */
			m->to = target_find(e, j, m, &room);
			m->collides = m->copied = false;
			j->done.collisions += m->to != NIL && !m->met;
			m->met |= m->to != NIL;
		}
		if (m->to != NIL)
			mark(e, j, m);
	}
	for (uint32_t i = 0; i < j->nr; i++)
		if (j->move[i].unsent)
			send(e, &j->move[i]);
}

/* --- a step --- */

/* Put back what is done, take up what comes next, and choose. True: frames are to be filled. */
static bool prepare(struct engine *e, struct migrate *j, uint64_t now) NEEDS(e->lock)
{
	uint64_t sites = 0;
	bool work = false;
	uint32_t first;

	if (!j->limit_ms)
		j->limit_ms = now + JOB_MS + j->frames * JOB_MS / JOB_FRAMES;
	if (now >= j->limit_ms)
		j->next = UINT32_MAX;
	for (uint32_t i = 0; i < j->nr;)
		i += look(e, j, i, now, &sites);
	/*
	 * Those that come now get their new frames in the order of the old ones, so that runs stay
	 * runs. (What was put back above has changed the order of the window.)
	 */
	first = j->nr;
	isolate_more(e, j, now);
	for (uint32_t i = first; i < j->nr;)
		i += look(e, j, i, now, &sites);
	for (uint32_t i = 0; i < j->nr; i++) {
		struct move *m = &j->move[i];

		if (m->copy != POOL_NONE)
			m->nid = source_to(&j->of, node_of(e, m));
		work |= m->place || m->copy != POOL_NONE;
	}
	return work;
}

static void finish_copies(struct engine *e, struct migrate *j, const bool *failed) NEEDS(e->lock)
{
	for (uint32_t i = 0; i < j->nr; i++)
		if (j->move[i].copy != POOL_NONE)
			target_adopt(e, j, &j->move[i], failed[i]);
}

void engine_migrated_add(struct engine_migrated *to, const struct engine_migrated *more)
{
	to->frames += more->frames;
	to->placed += more->placed;
	to->collisions += more->collisions;
	for (int i = 0; i < MOVE_FAILED_NR; i++)
		to->failed[i] += more->failed[i];
	if (more->culprit.why)
		to->culprit = more->culprit;
}

/* All has been looked at, and done or put back? Else: is there work at once? */
static enum engine_migrate state_of(struct engine *e, const struct migrate *j) NEEDS(e->lock)
{
	bool ended = source_ended(e, &j->of, j->next);

	if (!j->nr)
		return ended ? ENGINE_MIGRATE_DONE : ENGINE_MIGRATE_MORE;
	return j->full || ended ? ENGINE_MIGRATE_WAIT : ENGINE_MIGRATE_MORE;
}

static enum engine_migrate finish_step(struct engine *e, int job, struct engine_migrated *out)
	NEEDS(e->lock)
{
	struct migrate *j = e->migrate[job];
	enum engine_migrate ret;

	order_all(e, j);
	engine_migrated_add(out, &j->done);
	j->done = (struct engine_migrated){ 0 };
	ret = state_of(e, j);
	if (ret != ENGINE_MIGRATE_DONE)
		return ret;
	e->migrate[job] = NULL;
	free(j);
	count_bytes(e, -(int64_t)sizeof(*j));
	return ret;
}

enum engine_migrate migrate_step(struct engine *e, int job, uint64_t now_ms,
				 struct engine_migrated *out)
{
	enum engine_migrate ret = ENGINE_MIGRATE_NONE;
	bool failed[WINDOW] = { false };
	struct migrate *j;

	engine_lock(e);
	j = e->migrate[job];
	if (j && prepare(e, j, now_ms)) {
		engine_unlock(e);
		target_fill(e, j, failed);
		engine_lock(e);
		finish_copies(e, j, failed);
		note_placed(e, j);
	}
	if (j)
		ret = finish_step(e, job, out);
	engine_unlock(e);
	return ret;
}

/* A job that had to wait until compaction gave way begins. True: it still waits. */
static bool waits(struct engine *e, int job)
{
	bool wait;

	if (job >= ENGINE_NODES)
		return false;
	engine_lock(e);
	wait = e->migrate_next[job] && e->compact[job];
	if (e->migrate_next[job] && !wait) {
		begin_all(e, job, e->migrate_next[job] - 1); /* or memory is short: none */
		e->migrate_next[job] = 0;
	}
	engine_unlock(e);
	return wait;
}

enum engine_migrate engine_migrate_step(struct engine *e, int job, uint64_t now_ms,
					struct engine_migrated *out)
{
	return waits(e, job) ? ENGINE_MIGRATE_WAIT : migrate_step(e, job, now_ms, out);
}
