/* SPDX-License-Identifier: MIT */
/*
 * scan.c - a pass: every client, stretch by stretch, as far as the budget of pages goes.
 *
 * One worker at a time scans a client; several workers scan several clients, each those of its own
 * NUMA node first: it reads their memory from near. A worker that follows
 * another client into this one (track_pal()) may track a part of it meanwhile, and no more.
 *
 * Each client goes through two phases. TRACK asks change tracking for the written pages, stretch by
 * stretch (see.c), and hashes pages never seen before at once (read.c): if they change under the
 * worker's hands, the compare before the merge finds out, and a static page then needs one pass,
 * not two. PENDING visits the blocks with pages that were found dirty earlier and not in this pass.
 * Blocks without such pages are in no list, so a pass over calm memory costs the calls of change
 * tracking and nothing per page. Where the process has done nothing since, it costs none of these
 * either (still.h).
 */
#include <errno.h>

#include "engine/core.h"
#include "engine/across.h"
#include "engine/block.h"
#include "engine/budget.h"
#include "engine/dense.h"
#include "engine/follow.h"
#include "engine/forks.h"
#include "engine/mm.h"
#include "engine/read.h"
#include "engine/retry.h"
#include "engine/see.h"
#include "engine/settle.h"
#include "engine/shed.h"

/*
 * Address space per call of change tracking. The kernel holds the client's mmap_lock for all of it,
 * and protecting a written page takes it a hundred times as long as passing by a clean one (100 ns,
 * 1 ns). The client's faults, and the agent in the middle of an order, wait meanwhile. So calls
 * start small, and grow where memory turns out to be clean.
 */
#define TRACK_MIN_PAGES 512
#define TRACK_MAX_PAGES 32768
#define TRACK_MAX_VMAS 256

/* --- phase 1: what was written --- */

/* A clean page costs a thousandth of the budget's unit. */
static void charge_clean(struct scan_worker *w, uint64_t pages, int64_t *budget)
{
	uint64_t sum = w->clean + pages;

	*budget -= (int64_t)(sum / 1000);
	w->clean = (uint32_t)(sum % 1000);
}

/* New memory begins at `at`: track its probable like in another client, if that is new, too. */
static void track_pal(struct scan_worker *w, struct mm_slot *mm, struct span at, int64_t *budget)
{
	struct track_range v[SEE_RANGES];
	struct mm_slot *pal;

	at.end = u64_min(at.end, at.start + TRACK_MAX_PAGES * PAGE_BYTES);
	engine_lock(mm->e);
	pal = follow_untracked(mm, &at);
	engine_unlock(mm->e);
	if (!pal)
		return;
	see_track(w, pal, &at, false, v);
	--*budget;
	charge_clean(w, span_len(at) / PAGE_BYTES, budget);
	mm_put(pal);
}

/* Where this pass has to look itself, because tracking will not report. Returns 0 or -ESRCH. */
static int look_unseen(struct scan_worker *w, struct mm_slot *mm, struct span at,
		       struct track_range *v, int64_t *budget)
{
	int r = 0;

	/* Only the worker that scans the client changes this list. */
	for (uint32_t i = 0; i < mm->unseen_now.nr && !r; i++) {
		struct span part = span_clip(mm->unseen_now.at[i], at);

		/* Many addresses may have few pages: what there is, is what is paid for. */
		while (!span_empty(part) && !r) {
			uint64_t pages = 0;

			r = see_clean(w, mm, &part, v, &pages);
			--*budget;
			charge_clean(w, pages, budget);
		}
	}
	return r;
}

/* Huge pages are reported always: was anything else? */
static bool any_written(const struct track_range *v, int n)
{
	for (int i = 0; i < n; i++)
		if (v[i].kind != TRACK_HUGE)
			return true;
	return false;
}

/* A part of the client was not looked at. */
static void spoil(struct mm_slot *mm)
{
	engine_lock(mm->e);
	still_spoil(&mm->still);
	engine_unlock(mm->e);
}

/* Track one stretch of a region. Returns 0 or as read_pages(); the cursor moves on. */
static int scan_stretch(struct scan_worker *w, struct mm_slot *mm, struct span at, int64_t *budget)
{
	struct track_range v[SEE_RANGES];
	bool dense = dense_stretch(mm, &at), bare = dense_bare_until(mm, at.start) > at.start;
	int n, r = look_unseen(w, mm, at, v, budget);
	uint64_t *grow;
	int64_t left;

	if (r)
		return r;
	n = see_track(w, mm, &at, dense, v);
	w->at.addr = at.end;
	grow = bare ? &w->bare_pages : &w->track_pages;
	if (n < 0 || any_written(v, n))
		w->track_pages = w->bare_pages = TRACK_MIN_PAGES;
	else if (*grow < TRACK_MAX_PAGES)
		*grow *= 4;
	if (n < 0) {
		spoil(mm);
		return n == -ESRCH ? n : 0;
	}
	if (!bare || span_len(at) <= TRACK_MAX_PAGES * PAGE_BYTES)
		charge_clean(w, span_len(at) / PAGE_BYTES, budget);
	if (n)
		track_pal(w, mm, (struct span){ v[0].at.start, at.end }, budget);
	left = *budget;
	for (int i = 0; i < n && !r && !engine_rests(mm->e); i++)
		r = read_new(w, mm, v[i].at, budget);
	if (*budget < left) /* huge pages that are new */
		w->track_pages = w->bare_pages = TRACK_MIN_PAGES;
	return r;
}

/*
 * Most pages of a call of change tracking: passing from one mapping to the next costs the kernel as
 * much as a hundred clean pages, so there is a limit to mappings as well.
 */
static uint64_t track_limit(struct mm_slot *mm)
{
	uint64_t pages = 0, vmas;

	engine_lock(mm->e);
	for (int s = 0; s < RMAP_NR; s++)
		pages += mm->nr_state[s];
	vmas = mm->vmas_ours + 1;
	engine_unlock(mm->e);
	return u64_max(TRACK_MIN_PAGES, u64_min(TRACK_MAX_PAGES, pages * TRACK_MAX_VMAS / vmas));
}

/*
 * The stretch that comes next, in a region that the cursor has not passed. It ends where a huge
 * page does, since the kernel splits one of which it is to protect a part.
 *
 * A bare range in which some stretches were clean is one stretch: the call goes as far as it may
 * (engine.h). Not at once: all new memory is bare, and a stretch is read by one worker, whole. When
 * it began with 128 MiB, workers that could have helped found nothing left to do.
 */
static struct span next_stretch(const struct scan_worker *w, struct mm_slot *mm,
				const struct region *r)
{
	uint64_t start = u64_max(r->at.start, w->at.addr), pages = w->track_pages;
	uint64_t bare = huge_down(dense_bare_until(mm, start)), end;

	if (bare > start && w->bare_pages >= TRACK_MAX_PAGES)
		return (struct span){ start, u64_min(bare, r->at.end) };
	if (bare > start)
		pages = w->bare_pages;
	else if (pages > TRACK_MIN_PAGES)
		pages = u64_min(pages, track_limit(mm));
	end = huge_down(start + pages * PAGE_BYTES);
	return span_clip((struct span){ start, end }, r->at);
}

/* --- phase 2: pages that were dirty before and are calm now --- */

/* Does the page sit this pass out? Then it has one less to sit out. */
static bool skip_pass(struct engine *e, struct rmap_block *b, unsigned int slot) NEEDS(e->lock)
{
	uint8_t age = item_age(&b->item[slot]);

	/*
	 * A page that a client refuses because it is pinned keeps its age whatever the knob
	 * says: that state lasts long, and each try costs an order.
	 */
	if (!(age >> 4))
		return false;
	if (!(b->state[slot] & RMAP_LEFT_PINNED) &&
	    (!knob_get(e->knobs, KNOB_SMART_SCAN) || block_mm(b)->hurry))
		return false;
	item_set_age(&b->item[slot], (uint8_t)(age - (1 << 4)));
	e->total.pages_skipped++;
	return true;
}

/*
 * Take the next block off the list of this pass. False: the list is empty. *mask: pages to hash;
 * *doubt: others are to be looked at.
 */
static bool next_pending(struct mm_slot *mm, uint32_t *key, uint64_t *mask, bool *doubt)
	NEEDS(mm->e->lock)
{
	uint32_t bi = mm->blocks[block_pend_list(mm, PEND_NOW)].first;
	struct rmap_block *b;

	if (bi == NIL)
		return false;
	b = rmap_block(mm->e, bi);
	block_list_del(mm, bi, LINK_PEND);
	*key = b->key;
	*mask = b->pending & ~b->fresh;
	b->fresh = 0;
	for (uint64_t m = *mask; m; m &= m - 1) {
		unsigned int slot = low_bit(m);

		if (!waits_for_hash(b, slot))
			*doubt = true;
		else if (!engine_rests(mm->e) && !skip_pass(mm->e, b, slot))
			continue;
		*mask &= ~bit64(slot);
	}
	/* The next pass gets what is not hashed now, and what hashing leaves pending. */
	if (b->pending)
		block_list_add(mm, bi, block_pend_list(mm, PEND_NEXT));
	return true;
}

/* Returns 0, 1 (no block is left) or as read_pages(). */
static int scan_pending(struct scan_worker *w, struct mm_slot *mm, int64_t *budget)
{
	uint32_t key;
	uint64_t mask;
	bool more, doubt = false;
	int r = 0;

	engine_lock(mm->e);
	more = next_pending(mm, &key, &mask, &doubt);
	engine_unlock(mm->e);
	if (!more)
		return 1;
	if (doubt) {
		--*budget;
		r = see_sites(w, mm, key);
	}
	return r ? r : read_pages(w, mm, key, mask, budget);
}

/* --- a client --- */

/* A pass comes to a client. Is it passed by, because it has done nothing since the last look? */
static bool is_still(struct mm_slot *mm)
{
	const struct engine_ops *ops = mm->e->ops;
	struct still_signs now = { 0 };
	bool still;

	engine_lock(mm->e);
	now.mappings = mm->vmas_ours;
	engine_unlock(mm->e);
	/* Before the look, so that what is done during it counts for the next pass. */
	if (ops->ran)
		now.ran = ops->ran(mm->client);
	if (now.ran && now.mappings >= STILL_DEAR)
		now.changes = ops->changes(mm->client);
	engine_lock(mm->e);
	now.now_ms = mm->e->crowds.now;
	now.due = mm->hurry || mm->unseen_now.nr;
	still = still_pass(&mm->still, &now);
	engine_unlock(mm->e);
	return still;
}

static void start_pending(struct scan_worker *w, struct mm_slot *mm)
{
	engine_lock(mm->e);
	block_list_next_pass(mm);
	mm->unseen_now.nr = 0;
	engine_unlock(mm->e);
	w->at.phase = SCAN_PENDING;
}

/* One step. Returns 0: go on; 1: this client is done; negative: no more of it in this pass. */
static int scan_step(struct scan_worker *w, struct mm_slot *mm, int64_t *budget)
{
	struct region *r;
	int ret;

	if (!w->at.begun) {
		w->at.begun = true;
		--*budget;
		if (is_still(mm)) {
			start_pending(w, mm);
			return 0;
		}
	}
	if (w->at.phase == SCAN_PENDING)
		return scan_pending(w, mm, budget);
	r = region_next(mm, w->at.addr);
	if (!r) {
		start_pending(w, mm);
		return 0;
	}
	--*budget;
	ret = scan_stretch(w, mm, next_stretch(w, mm, r), budget);
	region_put(r);
	if (ret)
		spoil(mm);
	return ret;
}

/* --- clients --- */

/*
 * The first client whose serial is at least this; `prev` (may be NULL) is a hint where to start: a
 * client before it. One that has left the list has stale links: then the search starts at the head.
 */
static struct mm_slot *mm_from(struct engine *e, struct mm_slot *prev, uint64_t serial)
	NEEDS(e->lock)
{
	struct cds_list_head *pos = prev && !prev->dead && prev->serial < serial ? &prev->list :
										   &e->mms;
	struct mm_slot *mm;

	for (pos = pos->next; pos != &e->mms; pos = pos->next) {
		mm = cds_list_entry(pos, struct mm_slot, list);
		if (mm->serial >= serial)
			return mm;
	}
	return NULL;
}

/* How far a worker looks for a client of its own node, past others that wait. */
#define AHEAD_MAX 64

static bool is_near(const struct scan_worker *w, const struct mm_slot *mm) NEEDS(mm->e->lock);
static bool is_near(const struct scan_worker *w, const struct mm_slot *mm)
{
	return mm->reader == w->nid;
}

/*
 * A client that another worker had to leave for want of budget; `near`: one of this worker's node.
 * NULL: none.
 */
static struct mm_slot *take_parked(struct scan_worker *w, struct engine *e, bool near)
	NEEDS(e->lock)
{
	for (uint32_t i = e->nr_parked; i--;) {
		struct scan_cursor at = e->parked[i];
		struct mm_slot *mm = mm_from(e, NULL, at.serial);
		bool gone = !mm || mm->serial != at.serial;

		if (!gone) {
			mm_is_of(mm, e);
			if (near && !is_near(w, mm))
				continue;
		}
		e->parked[i] = e->parked[--e->nr_parked];
		if (gone)
			continue;
		w->at = at;
		return mm;
	}
	return NULL;
}

/*
 * Is anything to be found out about this client? Nothing of its memory is to be read while the
 * engine rests; but what stands on frames may be written, and the frames go then.
 */
static bool worth_a_look(const struct mm_slot *mm) NEEDS(mm->e->lock);
static bool worth_a_look(const struct mm_slot *mm)
{
	return !engine_rests(mm->e) || mm->nr_state[RMAP_MERGED] || mm->nr_state[RMAP_ZEROED] ||
	       mm->nr_state[RMAP_ORDERED];
}

/* A client is taken up for the first time in this pass. */
static void begin_client(struct scan_worker *w, struct mm_slot *mm) NEEDS(mm->e->lock)
{
	mm->hurry -= mm->hurry > 0;
	mm->passes++;
	w->at = (struct scan_cursor){ .serial = mm->serial };
	forks_update(mm);
	budget_tell_forks(mm);
	shed_mappings(mm);
	budget_requeue(mm);
	retry_shared(mm);
	dense_update(mm);
	unseen_move(&mm->unseen_now, &mm->unseen);
}

/*
 * A client of the worker's node that no worker has been at in this pass, among those whose turn is
 * next. NULL: none.
 */
static struct mm_slot *take_ahead(struct scan_worker *w, struct engine *e, struct mm_slot *prev)
	NEEDS(e->lock)
{
	struct mm_slot *mm = mm_from(e, prev, e->next_scan);

	for (int n = 0; mm && n < AHEAD_MAX; n++, mm = mm_from(e, mm, mm->serial + 1)) {
		mm_is_of(mm, e);
		if (mm->ahead || !is_near(w, mm) || !worth_a_look(mm))
			continue;
		mm->ahead = true;
		begin_client(w, mm);
		return mm;
	}
	return NULL;
}

/* The next client that no worker has been at in this pass. NULL: none. */
static struct mm_slot *take_next(struct scan_worker *w, struct engine *e, struct mm_slot *prev)
	NEEDS(e->lock)
{
	struct mm_slot *mm = mm_from(e, prev, e->next_scan);

	for (; mm; mm = mm_from(e, mm, e->next_scan)) {
		bool taken;

		mm_is_of(mm, e);
		e->next_scan = mm->serial + 1;
		taken = mm->ahead;
		mm->ahead = false;
		if (!taken && worth_a_look(mm))
			break;
	}
	if (mm) {
		mm_is_of(mm, e);
		begin_client(w, mm);
	}
	return mm;
}

/*
 * What was parked goes first, and a client of the worker's node before others. parked[] has room
 * for all: there are never more parked and being scanned than workers.
 */
static struct mm_slot *take_any(struct scan_worker *w, struct engine *e, struct mm_slot *prev)
	NEEDS(e->lock)
{
	struct mm_slot *mm = NULL;

	if (w->nid != NID_UNKNOWN) {
		mm = take_parked(w, e, true);
		if (!mm && e->nr_parked + e->nr_scanning < ENGINE_WORKERS)
			mm = take_ahead(w, e, prev);
	}
	if (!mm)
		mm = take_parked(w, e, false);
	return mm ? mm : take_next(w, e, prev);
}

/* A client to scan, with a reference, and w->at set to where. NULL: there is none left. */
static struct mm_slot *take_up(struct scan_worker *w, struct engine *e, struct mm_slot *prev)
{
	struct mm_slot *mm;

	engine_lock(e);
	mm = take_any(w, e, prev);
	if (mm) {
		mm_get(mm); /* its owner's goes after it left the list */
		w->bare_pages = TRACK_MIN_PAGES;
		e->nr_scanning++;
	}
	engine_unlock(e);
	return mm;
}

static void put_down(struct scan_worker *w, struct engine *e, bool finished)
{
	engine_lock(e);
	if (!finished)
		e->parked[e->nr_parked++] = w->at;
	e->nr_scanning--;
	engine_unlock(e);
}

/* This worker found nothing to take up: is the pass over? */
static enum engine_scan nothing_left(struct engine *e)
{
	enum engine_scan ret = ENGINE_SCAN_NO_WORK;

	engine_lock(e);
	if (!e->nr_scanning && !e->nr_parked) {
		e->next_scan = 0;
		if (e->total.pages_scanned == e->pass_hashed)
			read_drop_buffers(e);
		e->pass_hashed = e->total.pages_scanned;
		/* No worker is scanning: what they keep for the next page would rest for a pass. */
		for (uint32_t i = 0; i < ENGINE_WORKERS; i++)
			pool_drain(&e->pool, i);
		ret = ENGINE_SCAN_PASS;
	}
	engine_unlock(e);
	return ret;
}

void engine_set_worker_nid(struct engine *e, unsigned int worker, int nid)
{
	e->worker[worker].nid = nid;
}

enum engine_scan engine_scan(struct engine *e, unsigned int worker, int64_t *budget)
{
	struct scan_worker *w = &e->worker[worker];
	struct mm_slot *mm = NULL, *prev = NULL;
	int r;

	if (!w->track_pages)
		w->track_pages = TRACK_MIN_PAGES;
	engine_lock(e);
	across_take(e);
	engine_unlock(e);
	while (*budget > 0) {
		mm = take_up(w, e, prev);
		if (prev)
			mm_put(prev);
		prev = mm;
		if (!mm)
			break;
		do {
			r = CMM_LOAD_SHARED(mm->dead) ? -ESRCH : scan_step(w, mm, budget);
		} while (!r && *budget > 0);
		put_down(w, e, r != 0);
	}
	if (mm) {
		mm_put(mm);
		return ENGINE_SCAN_BUDGET;
	}
	return *budget > 0 ? nothing_left(e) : ENGINE_SCAN_BUDGET;
}
