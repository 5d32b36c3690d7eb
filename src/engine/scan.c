/* SPDX-License-Identifier: MIT */
/*
 * scan.c - a pass: what was written, what has been calm since, and what is in it.
 *
 * A client is scanned by one worker at a time; several clients by several workers. One that follows
 * another client into it (track_pal()) may track a part of it meanwhile, and no more than that.
 *
 * Each client goes through two phases. TRACK asks change tracking for the written pages, stretch by
 * stretch, and settles what a write means for each. Pages never seen before are hashed at once: if
 * they change under our hands, the compare before the merge finds out, and a static page then needs
 * one pass, not two. PENDING visits the blocks with pages that were found dirty earlier and not in
 * this pass. Blocks without such pages are in no list, so a pass over calm memory costs the calls
 * of change tracking and nothing per page.
 *
 * Safety of what tracking says. The call runs without the lock and consumes what it reports, so its
 * answer can be older than a message taken in meanwhile, and must then not be believed where it
 * could hurt. Three rules: (1) no order is under way in a stretch while it is tracked: blocks with an
 * order under way are left out, and engine_flush() leaves out the stretch being tracked. So
 * "anonymous" on a merged page means that it was written after the merge. (2) Where DEL, FORGET or
 * ADOPT touched the stretch meanwhile, nothing is concluded but "look at this page again": above
 * all, no site is given up, because the frame might still be mapped. (3) What an ADOPT says is older
 * than when it is taken in, and tracking may have shown, and spent, a write in between. So adopted
 * pages, and sites of which a report was not believed, wait in the lists of PENDING for a look at what
 * is there now, which arms nothing. It obeys the first two rules. What tracking could not look at any more
 * (TRACK_UNKNOWN) is treated like what raced.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/scan.h"
#include "engine/across.h"
#include "engine/block.h"
#include "engine/budget.h"
#include "engine/core.h"
#include "engine/dense.h"
#include "engine/follow.h"
#include "engine/hash.h"
#include "engine/merge.h"
#include "engine/mm.h"
#include "engine/page.h"
#include "engine/settle.h"
#include "engine/unstable.h"

#define TRACK_RANGES 256 /* written runs fetched per call */
/*
 * Address space per call. The kernel holds the client's mmap_lock for all of it, and protecting a written
 * page takes it a hundred times as long as passing by a clean one (100 ns, 1 ns): the client's
 * faults, and the agent in the middle of an order, wait meanwhile. So calls start small, and grow where
 * memory turns out to be clean.
 */
#define TRACK_MIN_PAGES 512
#define TRACK_MAX_PAGES 32768
#define TRACK_MAX_VMAS 256

/* --- phase 1: written pages --- */

/* A written page of a file mapping, or of the zero page, or private memory: what it means. */
static void see_anon(struct engine *e, uint32_t bi, unsigned int slot, bool raced)
{
	struct rmap_block *b = rmap_block(e, bi);

	switch (rmap_state(b, slot)) {
	case RMAP_ZEROED:
		page_set(e, bi, slot, RMAP_ABSENT, 0);
		/* fall through */
	case RMAP_ABSENT:
		page_set(e, bi, slot, RMAP_VOLATILE, 0);
		page_pend(e, bi, slot, false);
		break;
	case RMAP_ORDERED:
		/* Sent: impossible here (rule 1). Not sent: the page is too busy to be merged. */
		if (b->inflight & bit64(slot))
			break;
		/* fall through */
	case RMAP_UNSTABLE:
		page_set(e, bi, slot, RMAP_VOLATILE, 0);
		/* fall through */
	case RMAP_VOLATILE:
		page_age(b, slot);
		page_pend(e, bi, slot, true);
		break;
	case RMAP_MERGED:
		if (raced) {
			page_pend(e, bi, slot, false);
			break;
		}
		page_set(e, bi, slot, RMAP_COWED, 0);
		e->cow_breaks++;
		block_mm(b)->cow_breaks++;
		/* fall through */
	case RMAP_COWED:
	case RMAP_FOREIGN:
		page_age(b, slot);
		page_pend(e, bi, slot, true);
		break;
	default:
		break;
	}
}

static void see_file(struct engine *e, uint32_t bi, unsigned int slot, bool raced)
{
	switch (rmap_state(rmap_block(e, bi), slot)) {
	case RMAP_MERGED:
	case RMAP_ORDERED:
	case RMAP_COWED: /* still in the mapping of its frame */
	case RMAP_FOREIGN:
		break;
	case RMAP_ZEROED:
		page_set(e, bi, slot, RMAP_ABSENT, 0);
		/* fall through */
	default:
		if (raced)
			break;
		page_set(e, bi, slot, RMAP_FOREIGN, 0);
		page_pend(e, bi, slot, false);
	}
}

static void see_zero(struct engine *e, uint32_t bi, unsigned int slot, bool raced)
{
	struct rmap_block *b = rmap_block(e, bi);

	switch (rmap_state(b, slot)) {
	case RMAP_ABSENT:
	case RMAP_ZEROED:
	case RMAP_COWED:
		break;
	case RMAP_MERGED:
		if (raced)
			page_pend(e, bi, slot, false);
		else
			page_set(e, bi, slot, RMAP_ABSENT, 0);
		break;
	case RMAP_ORDERED:
		if (b->inflight & bit64(slot))
			break;
		/* fall through */
	default: /* nothing to gain from it any more */
		page_set(e, bi, slot, RMAP_ABSENT, 0);
	}
}

static bool is_raced(const struct track_window *t, uint64_t addr)
{
	unsigned int i;

	for (i = 0; i < t->nr_raced; i++)
		if (addr >= t->raced[i].start && addr < t->raced[i].end)
			return true;
	return false;
}

/* t: NULL when this is not from change tracking. */
static void see_page(const struct track_window *t, struct mm_slot *mm, uint32_t bi,
		     unsigned int slot, enum track_kind kind)
{
	uint64_t addr = rmap_block(mm->e, bi)->key * BLOCK_BYTES + slot * PAGE_BYTES;
	bool raced = kind == TRACK_UNKNOWN || (t && is_raced(t, addr));

	/* Tracking knows better of what is known. */
	if (!t && rmap_state(rmap_block(mm->e, bi), slot) != RMAP_ABSENT)
		return;
	if (kind == TRACK_ANON || kind == TRACK_UNKNOWN)
		see_anon(mm->e, bi, slot, raced);
	else if (kind == TRACK_FILE)
		see_file(mm->e, bi, slot, raced);
	else
		see_zero(mm->e, bi, slot, raced);
}

/* Pages of [start, end), which lies in region r. */
static void see_run(const struct track_window *t, struct mm_slot *mm, struct region *r,
		    uint64_t start, uint64_t end, enum track_kind kind)
{
	uint64_t addr = start;

	while (addr < end) {
		uint64_t stop = addr / BLOCK_BYTES * BLOCK_BYTES + BLOCK_BYTES;
		uint32_t key = (uint32_t)(addr / BLOCK_BYTES), bi;

		stop = stop < end ? stop : end;
		bi = kind == TRACK_ZERO ? block_find(mm, key) : block_get(mm, key, r);
		if (bi == NIL) { /* nothing known of zero pages, or no memory to know it */
			addr = stop;
			continue;
		}
		for (; addr < stop; addr += PAGE_BYTES)
			see_page(t, mm, bi, addr / PAGE_BYTES % BLOCK_PAGES, kind);
		block_put(mm, bi);
	}
}

/* The parts of a reported range that are offered still. */
static void see_range(const struct track_window *t, struct mm_slot *mm, const struct track_range *v)
{
	const struct region_array *a = mm->regions;
	uint32_t i;

	for (i = region_index(a, v->start); i < a->nr && a->r[i]->start < v->end; i++)
		see_run(t, mm, a->r[i], v->start > a->r[i]->start ? v->start : a->r[i]->start,
			v->end < a->r[i]->end ? v->end : a->r[i]->end, v->kind);
}

void engine_see_clean(struct mm_slot *mm, const struct track_range *v, int nr)
{
	int i;

	engine_lock(mm->e);
	for (i = 0; i < nr && !mm->dead; i++)
		see_range(NULL, mm, &v[i]);
	engine_unlock(mm->e);
}

/* --- hashing --- */

/* Does the page wait to be hashed, and not just to be looked at? */
static bool to_hash(const struct rmap_block *b, unsigned int slot)
{
	return (b->pending & bit64(slot)) && rmap_state(b, slot) != RMAP_MERGED;
}

/* Buffers are kept while there is something to read; an engine at rest needs none. */
static bool make_buffer(struct scan_worker *w, struct engine *e)
{
	if (w->buf)
		return true;
	w->buf = malloc(SCAN_BUF_BYTES);
	if (w->buf)
		count_bytes(e, SCAN_BUF_BYTES);
	return w->buf;
}

void read_drop_buffers(struct engine *e)
{
	unsigned int i;

	for (i = 0; i < ENGINE_WORKERS; i++) {
		if (!e->worker[i].buf)
			continue;
		free(e->worker[i].buf);
		e->worker[i].buf = NULL;
		count_bytes(e, -(int64_t)SCAN_BUF_BYTES);
	}
}

/* Zero, or the negative errno of the read; *nr pages are in the buffer. */
static int read_pages(struct scan_worker *w, struct mm_slot *mm, uint64_t addr, unsigned int want,
		      unsigned int *nr)
{
	ssize_t n = mm->e->ops->read(mm->client, addr, w->buf, want * PAGE_BYTES);

	*nr = n > 0 ? (unsigned int)((size_t)n / PAGE_BYTES) : 0;
	return n < 0 ? (int)n : 0;
}

static void nids_of(struct engine *e, struct mm_slot *mm, uint64_t addr, unsigned int nr, int *nid)
{
	uint64_t v[BLOCK_PAGES];
	unsigned int i;

	memset(nid, 0, nr * sizeof(*nid));
	if (e->nr_nodes == 1)
		return;
	for (i = 0; i < nr; i++)
		v[i] = addr + i * PAGE_BYTES;
	e->ops->nid(mm->client, v, (int)nr, nid);
	for (i = 0; i < nr; i++)
		if (nid[i] < 0 || nid[i] >= e->nr_nodes)
			nid[i] = 0;
}

struct hashed {
	uint64_t hash[BLOCK_PAGES];
	bool zero[BLOCK_PAGES];
	int nid[BLOCK_PAGES];
};

static void warm(struct engine *e, const struct hashed *h, unsigned int nr)
{
	int root[BLOCK_PAGES];
	unsigned int i;

	for (i = 0; i < nr; i++)
		root[i] = tree_root(e, h->nid[i]);
	stable_warm(&e->stable, root, h->hash, nr);
	unstable_warm(e, root, h->hash, nr);
}

/* Lock held. The block may have gone and come back since; only what still waits is looked up. */
static void look_up(struct scan_worker *w, struct mm_slot *mm, uint32_t key, unsigned int first,
		    unsigned int nr, const struct hashed *h)
{
	struct engine *e = mm->e;
	uint32_t bi = block_find(mm, key), partner;
	unsigned int i;

	if (bi == NIL)
		return;
	warm(e, h, nr);
	for (i = 0; i < nr; i++) {
		struct rmap_block *b = rmap_block(e, bi);

		/* Fresh: written since it was read, as another worker has seen that follows into it. */
		if (!to_hash(b, first + i) || (b->fresh & bit64(first + i)))
			continue;
		b->pending &= ~bit64(first + i);
		partner = merge_page(w, e, bi, first + i, h->hash[i], h->zero[i], h->nid[i], i,
				     follow_partner(w, i));
		if (partner != NIL)
			follow_pair(e, bi * BLOCK_PAGES + first + i, partner);
	}
	budget_refuse_early(w, e, bi);
}

/* It cannot be read: it is not there, and would be seen again if it came back. */
static void unreadable(struct mm_slot *mm, uint32_t key, unsigned int slot)
{
	uint32_t bi;

	engine_lock(mm->e);
	bi = block_find(mm, key);
	if (bi != NIL && to_hash(rmap_block(mm->e, bi), slot))
		page_drop(mm, bi, bit64(slot));
	engine_unlock(mm->e);
}

/* Returns as hash_run(), or 0: the first page cannot be read. */
static int read_and_hash(struct scan_worker *w, struct mm_slot *mm, uint32_t key,
			 unsigned int first, unsigned int want)
{
	struct engine *e = mm->e;
	uint64_t addr = key * BLOCK_BYTES + first * PAGE_BYTES;
	struct hashed h;
	unsigned int nr, i;

	if (read_pages(w, mm, addr, want, &nr) == -ESRCH)
		return -ESRCH;
	if (!nr)
		return 0;
	for (i = 0; i < nr; i++) {
		h.hash[i] = page_hash(w->buf + i * PAGE_BYTES, e->hash_seed);
		h.zero[i] = h.hash[i] == e->zero_hash && page_is_zero(w->buf + i * PAGE_BYTES);
	}
	nids_of(e, mm, addr, nr, h.nid);
	follow_sample(w, e, nr);
	engine_lock(e);
	e->pages_scanned += nr;
	look_up(w, mm, key, first, nr, &h);
	engine_unlock(e);
	merge_fill(w, e);
	return (int)nr;
}

/* A run of pending pages of one block. Returns pages dealt with, at least 1, or -ESRCH, -ENOMEM. */
static int hash_run(struct scan_worker *w, struct mm_slot *mm, uint32_t key, unsigned int first,
		    unsigned int want)
{
	int nr;

	if (!make_buffer(w, mm->e))
		return -ENOMEM;
	nr = (int)follow_begin(w, mm, key, first, want);
	if (!nr)
		nr = read_and_hash(w, mm, key, first, want);
	follow_end(w);
	if (nr)
		return nr;
	unreadable(mm, key, first);
	return 1;
}

/* All pages of a mask. Returns 0, -ESRCH (the client is gone) or -ENOMEM (they go on waiting). */
static int hash_mask(struct scan_worker *w, struct mm_slot *mm, uint32_t key, uint64_t mask,
		     int64_t *budget)
{
	while (mask) {
		unsigned int first = (unsigned int)__builtin_ctzll(mask), n;
		uint64_t rest = ~(mask >> first);
		int done;

		n = rest ? (unsigned int)__builtin_ctzll(rest) : BLOCK_PAGES;
		if (n > BLOCK_PAGES - first)
			n = BLOCK_PAGES - first;
		done = hash_run(w, mm, key, first, n);
		if (done < 0)
			return done;
		*budget -= done;
		mask &= ~mask64(first, first + (unsigned int)done);
	}
	return 0;
}

/* Hash the pages of a reported range that were seen for the first time. */
static int hash_new(struct scan_worker *w, struct mm_slot *mm, const struct track_range *v,
		    int64_t *budget)
{
	uint64_t key = v->start / BLOCK_BYTES, last = (v->end - 1) / BLOCK_BYTES, mask, m;
	struct rmap_block *b;
	uint32_t bi;
	int r;

	for (; key <= last; key++) {
		engine_lock(mm->e);
		bi = block_find(mm, (uint32_t)key);
		mask = 0;
		if (bi != NIL) {
			b = rmap_block(mm->e, bi);
			mask = b->pending & ~b->fresh;
			if (key * BLOCK_BYTES < v->start)
				mask &= mask64(v->start / PAGE_BYTES % BLOCK_PAGES, BLOCK_PAGES);
			if ((key + 1) * BLOCK_BYTES > v->end)
				mask &= mask64(0, v->end / PAGE_BYTES % BLOCK_PAGES);
			for (m = mask; m; m &= m - 1)
				if (!to_hash(b, (unsigned int)__builtin_ctzll(m)))
					mask &= ~(m & -m);
		}
		engine_unlock(mm->e);
		r = hash_mask(w, mm, (uint32_t)key, mask, budget);
		if (r)
			return r;
	}
	return 0;
}

/* --- a stretch --- */

/*
 * Open the tracking window over [*start, *end), cut back to leave out blocks with an order under
 * way. False: *start lies in such a block; *end is where to go on.
 */
static bool window_open(struct scan_worker *w, struct mm_slot *mm, uint64_t start, uint64_t *end)
{
	struct engine *e = mm->e;
	bool open = true;
	unsigned int i;

	engine_lock(e);
	for (i = 0; i < MM_MAX_ORDERS && mm->nr_orders; i++) {
		uint64_t at = mm->order[i].key * BLOCK_BYTES;

		if (!mm->order[i].id || at >= *end || at + BLOCK_BYTES <= start)
			continue;
		if (at > start) {
			*end = at;
		} else {
			if (at + BLOCK_BYTES < *end)
				*end = at + BLOCK_BYTES;
			open = false;
		}
	}
	if (open && !mm->dead)
		w->track = (struct track_window){ .mm = mm, .start = start, .end = *end };
	engine_unlock(e);
	return open;
}

static void charge_clean(struct scan_worker *w, uint64_t pages, int64_t *budget)
{
	uint64_t sum = w->clean + pages;

	*budget -= (int64_t)(sum / 1000);
	w->clean = (uint32_t)(sum % 1000);
}

/*
 * Ask change tracking for [start, *end) and take in what it says. Returns the number of ranges in v, or
 * a negative errno; *end: where to go on.
 */
static int track(struct scan_worker *w, struct mm_slot *mm, uint64_t start, uint64_t *end,
		 bool dense, struct track_range *v)
{
	struct engine *e = mm->e;
	uint64_t walk_end;
	int n, i;

	if (!window_open(w, mm, start, end))
		return -EBUSY;
	walk_end = *end;
	n = e->ops->track(mm->client, start, *end, dense, v, TRACK_RANGES, &walk_end);
	engine_lock(e);
	for (i = 0; i < n && !mm->dead; i++)
		see_range(&w->track, mm, &v[i]);
	w->track.mm = NULL;
	engine_unlock(e);
	if (n >= 0 && walk_end > start && walk_end < *end)
		*end = walk_end;
	return n;
}

/* New memory, and what is probably equal to it lies in another client and was not looked at yet: do. */
static void track_pal(struct scan_worker *w, struct mm_slot *mm, uint64_t start, uint64_t end,
		      int64_t *budget)
{
	struct track_range v[TRACK_RANGES];
	struct mm_slot *pal = follow_untracked(mm, &start, &end);

	if (!pal)
		return;
	track(w, pal, start, &end, false, v);
	--*budget;
	charge_clean(w, (end - start) / PAGE_BYTES, budget);
	mm_put(pal);
}

/* Track one stretch of a region. Returns 0 or as hash_mask(); the cursor moves on. */
static int scan_stretch(struct scan_worker *w, struct mm_slot *mm, uint64_t start, uint64_t end,
			int64_t *budget)
{
	struct track_range v[TRACK_RANGES];
	bool dense = dense_stretch(mm, start, &end);
	int n = track(w, mm, start, &end, dense, v), i, r = 0;

	w->at.addr = end;
	if (n)
		w->track_pages = TRACK_MIN_PAGES;
	else if (w->track_pages < TRACK_MAX_PAGES)
		w->track_pages *= 4;
	if (n < 0)
		return n == -ESRCH ? n : 0;
	charge_clean(w, (end - start) / PAGE_BYTES, budget);
	if (n)
		track_pal(w, mm, v[0].start, end, budget);
	for (i = 0; i < n && !r; i++)
		r = hash_new(w, mm, &v[i], budget);
	return r;
}

/* --- phase 2: pages that were dirty before and are calm now --- */

/*
 * Take the next block off the list of this pass. False: the list is empty. *mask: pages to hash; *doubt:
 * others are to be looked at.
 */
static bool next_pending(struct mm_slot *mm, uint32_t *key, uint64_t *mask, bool *doubt)
{
	struct engine *e = mm->e;
	struct rmap_block *b;
	bool smart = knob_get(e->knobs, KNOB_SMART_SCAN);
	uint32_t bi;
	uint64_t m;

	bi = mm->blocks[PEND_NOW ^ mm->pend_flip].first;
	if (bi == NIL)
		return false;
	b = rmap_block(e, bi);
	block_list_del(mm, bi, LINK_PEND);
	*key = b->key;
	*mask = b->pending & ~b->fresh;
	b->fresh = 0;
	for (m = *mask; m; m &= m - 1) {
		unsigned int slot = (unsigned int)__builtin_ctzll(m);
		uint8_t age;

		if (!to_hash(b, slot)) {
			*doubt = true;
			*mask &= ~bit64(slot);
			continue;
		}
		/* Not what a client refuses (pinned, shared by a fork): that keeps for long, and each
		 * try costs an order. */
		age = item_age(&b->item[slot]);
		if (age >> 4 && (smart || (b->state[slot] & RMAP_LEFT_PINNED))) {
			item_set_age(&b->item[slot], (uint8_t)(age - (1 << 4)));
			*mask &= ~bit64(slot);
			e->pages_skipped++;
		}
	}
	/* What is not hashed now is for the next pass, and so is what hashing leaves pending. */
	if (b->pending)
		block_list_add(mm, bi, PEND_NEXT ^ mm->pend_flip);
	return true;
}

/* Lock held: what a look at a block has shown of its sites. What raced with it is looked at again. */
static void see_sites(const struct track_window *t, struct mm_slot *mm, uint32_t key,
		      const struct track_range *v, int nr)
{
	uint32_t bi = block_find(mm, key);
	uint64_t m, addr;
	int i = 0;

	if (bi == NIL)
		return;
	for (m = rmap_block(mm->e, bi)->pending; m; m &= m - 1) {
		unsigned int slot = (unsigned int)__builtin_ctzll(m);

		addr = key * BLOCK_BYTES + slot * PAGE_BYTES;
		if (to_hash(rmap_block(mm->e, bi), slot) || is_raced(t, addr))
			continue;
		rmap_block(mm->e, bi)->pending &= ~bit64(slot);
		while (i < nr && v[i].end <= addr)
			i++;
		if (i < nr && v[i].start <= addr)
			see_page(t, mm, bi, slot, v[i].kind);
	}
	block_put(mm, bi);
}

/* Returns 0 or -ESRCH. What cannot be looked at now is in the next pass. */
static int look_at_sites(struct scan_worker *w, struct mm_slot *mm, uint32_t key)
{
	uint64_t start = key * BLOCK_BYTES, end = start + BLOCK_BYTES;
	struct track_range v[BLOCK_PAGES];
	int n;

	if (!window_open(w, mm, start, &end))
		return 0;
	n = mm->e->ops->look(mm->client, start, end, v, BLOCK_PAGES);
	engine_lock(mm->e);
	if (n >= 0 && !mm->dead)
		see_sites(&w->track, mm, key, v, n);
	w->track.mm = NULL;
	engine_unlock(mm->e);
	return n == -ESRCH ? n : 0;
}

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
		r = look_at_sites(w, mm, key);
	}
	return r ? r : hash_mask(w, mm, key, mask, budget);
}

/* --- a client --- */

static void start_pending(struct scan_worker *w, struct mm_slot *mm)
{
	engine_lock(mm->e);
	block_list_next_pass(mm);
	engine_unlock(mm->e);
	w->at.phase = SCAN_PENDING;
}

/*
 * Most pages of a call of change tracking: passing from one mapping to the next costs the kernel as
 * much as a hundred clean pages, so there is a limit to mappings as well.
 */
static uint64_t track_limit(struct mm_slot *mm)
{
	uint64_t pages = 0, vmas, limit;
	int s;

	engine_lock(mm->e);
	for (s = 0; s < RMAP_NR; s++)
		pages += mm->nr_state[s];
	vmas = mm->vmas_ours + 1;
	engine_unlock(mm->e);
	limit = pages * TRACK_MAX_VMAS / vmas;
	if (limit < TRACK_MIN_PAGES)
		return TRACK_MIN_PAGES;
	return limit < TRACK_MAX_PAGES ? limit : TRACK_MAX_PAGES;
}

/* One step. Returns 0: go on; 1: this client is done; negative: no more of it in this pass. */
static int scan_step(struct scan_worker *w, struct mm_slot *mm, int64_t *budget)
{
	struct region *r;
	uint64_t start, pages = w->track_pages;
	int ret;

	if (w->at.phase == SCAN_PENDING)
		return scan_pending(w, mm, budget);
	r = region_next(mm, w->at.addr);
	if (!r) {
		start_pending(w, mm);
		return 0;
	}
	--*budget;
	if (pages > TRACK_MIN_PAGES) {
		uint64_t limit = track_limit(mm);

		pages = pages < limit ? pages : limit;
	}
	start = r->start > w->at.addr ? r->start : w->at.addr;
	if (pages > (r->end - start) / PAGE_BYTES)
		pages = (r->end - start) / PAGE_BYTES;
	ret = scan_stretch(w, mm, start, start + pages * PAGE_BYTES, budget);
	region_put(r);
	return ret;
}

/* --- clients --- */

/*
 * Lock held. The first client whose serial is at least this; `prev` (may be NULL) is one before
 * it, to start from. A client that has left the list has stale links, and it is searched anew.
 */
static struct mm_slot *mm_from(struct engine *e, struct mm_slot *prev, uint64_t serial)
{
	struct cds_list_head *pos = prev && !prev->dead ? &prev->list : &e->mms;
	struct mm_slot *mm;

	for (pos = pos->next; pos != &e->mms; pos = pos->next) {
		mm = cds_list_entry(pos, struct mm_slot, list);
		if (mm->serial >= serial)
			return mm;
	}
	return NULL;
}

/* What another worker had to leave for want of budget. NULL: nothing. */
static struct mm_slot *take_parked(struct scan_worker *w, struct engine *e)
{
	struct mm_slot *mm;

	while (e->nr_parked) {
		w->at = e->parked[--e->nr_parked];
		mm = mm_from(e, NULL, w->at.serial);
		if (mm && mm->serial == w->at.serial)
			return mm;
	}
	return NULL;
}

/* A client to scan, with a reference, and w->at set to where. NULL: there is none left. */
static struct mm_slot *take_up(struct scan_worker *w, struct engine *e, struct mm_slot *prev)
{
	struct mm_slot *mm;

	engine_lock(e);
	mm = take_parked(w, e);
	if (!mm) {
		mm = mm_from(e, prev, e->next_scan);
		if (mm) {
			e->next_scan = mm->serial + 1;
			w->at = (struct scan_cursor){ .serial = mm->serial };
			budget_requeue(mm);
			dense_update(mm);
		}
	}
	if (mm) {
		mm_get(mm); /* its owner's goes after it left the list */
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
		if (e->pages_scanned == e->pass_hashed)
			read_drop_buffers(e);
		e->pass_hashed = e->pages_scanned;
		ret = ENGINE_SCAN_PASS;
	}
	engine_unlock(e);
	return ret;
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
