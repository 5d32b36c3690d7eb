/* SPDX-License-Identifier: MIT */
/*
 * read.c - pages are read and hashed, and find their like.
 *
 * A worker reads and hashes with the lock released, and takes it to look the hashes up. It asks the
 * policies one after the other and hands the answer of each to the next: follow.c for a guess,
 * merge.c for a node or a partner, layout.c for a frame, budget.c for the mappings.
 *
 * Safe because a page may change after it was read: its hash is then stale, and the client's
 * compare before the merge finds out. A page that was seen to be written since, or that was
 * dropped, is not looked up.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/read.h"
#include "engine/allow.h"
#include "engine/block.h"
#include "engine/budget.h"
#include "engine/fill.h"
#include "engine/follow.h"
#include "engine/hash.h"
#include "engine/huge.h"
#include "engine/layout.h"
#include "engine/merge.h"
#include "engine/page.h"
#include "engine/settle.h"
#include "engine/unstable.h"

#define BUF_BYTES (2 * BLOCK_BYTES)

/* --- the buffer --- */

/*
 * Buffers are kept while there is something to read; an engine at rest needs none. They begin with
 * a page: where source and target of a copy differ by a few bytes within their pages, each load
 * seems to the processor to depend on the store before it. 16 bytes more, as malloc() gives, make
 * reading a client's page cost 2.8 us in place of 1.2 on one machine of today.
 */
static bool make_buffer(struct scan_worker *w, struct engine *e)
{
	if (w->buf)
		return true;
	w->buf = aligned_alloc(PAGE_BYTES, BUF_BYTES);
	if (w->buf)
		count_bytes(e, BUF_BYTES);
	return w->buf;
}

void read_drop_buffers(struct engine *e)
{
	for (unsigned int i = 0; i < ENGINE_WORKERS; i++) {
		if (!e->worker[i].buf)
			continue;
		free(e->worker[i].buf);
		e->worker[i].buf = NULL;
		count_bytes(e, -(int64_t)BUF_BYTES);
	}
}

/* Where pages are read to be compared with those of the first block. */
static unsigned char *second_block(const struct scan_worker *w)
{
	return w->buf + BLOCK_BYTES;
}

/* A page of a client, read to be compared with others. */
static const unsigned char *read_one(struct scan_worker *w, struct mm_slot *mm, uint64_t pn)
{
	unsigned char *page = second_block(w);
	ssize_t n = mm->e->ops->read(mm->client, pn * PAGE_BYTES, page, PAGE_BYTES);

	return n == (ssize_t)PAGE_BYTES ? page : NULL;
}

/* --- look-up --- */

struct hashed {
	uint64_t hash[BLOCK_PAGES];
	bool zero[BLOCK_PAGES];
	int nid[BLOCK_PAGES];
};

static void warm(struct engine *e, const struct hashed *h, unsigned int nr) NEEDS(e->lock)
{
	int root[BLOCK_PAGES];

	for (unsigned int i = 0; i < nr; i++)
		root[i] = h->nid[i] == NID_UNKNOWN ? 0 : tree_root(e, h->nid[i]);
	stable_warm(&e->stable, root, h->hash, nr);
	unstable_warm(e, root, h->hash, nr);
}

/* A new frame for the page, which is page i of the buffer, and its partner. */
static void pair_up(struct scan_worker *w, struct engine *e, uint32_t bi, unsigned int slot,
		    uint32_t partner, int nid, unsigned int i) NEEDS(e->lock)
{
	uint32_t frame, node;

	if (!allow_frame(e)) {
		merge_leave_out(e, bi, slot);
		return;
	}
	if (nid == NID_UNKNOWN)
		nid = 0; /* all nodes' pages share frames, and some zone it must be */
	frame = layout_frame(e, bi, slot, partner, nid, (uint32_t)(w - e->worker));
	node = merge_pair(e, bi, slot, partner, frame, nid);
	if (node == NIL)
		return;
	fill_add(&w->fill, e, node, partner, i);
	follow_pair(e, item_index(bi, slot), partner);
}

static void apply_budget(struct scan_worker *w, struct mm_slot *mm, uint32_t bi) NEEDS(mm->e->lock)
{
	if (budget_refuse(mm, bi))
		fill_prune(&w->fill, mm->e);
}

/* The block may have gone and come back since; only what still waits is looked up. */
static void match_hashes(struct scan_worker *w, struct mm_slot *mm, uint32_t key,
			 unsigned int first, unsigned int nr, const struct hashed *h)
	NEEDS(mm->e->lock)
{
	uint32_t bi = block_find(mm, key);

	if (bi == NIL)
		return;
	warm(mm->e, h, nr);
	for (unsigned int i = 0; i < nr; i++) {
		struct rmap_block *b = rmap_block(mm->e, bi);
		uint32_t partner;

		/* Fresh: a worker that follows into this client has seen a write since the read. */
		if (!waits_for_hash(b, first + i) || (b->fresh & bit64(first + i)))
			continue;
		b->pending &= ~bit64(first + i);
		/* Two pages are bound at most: it, and a partner. */
		if (engine_rests(mm->e) || !allow_debt(mm->e, 2)) {
			page_pend(mm->e, bi, first + i, false);
			continue;
		}
		if (h->nid[i] == NID_UNKNOWN && !mm->e->merge_across) {
			merge_later(mm->e, bi, first + i);
			continue;
		}
		if (huge_changed(mm->e, bi, first + i, h->hash[i]) ||
		    rmap_state(rmap_block(mm->e, bi), first + i) == RMAP_UNSTABLE)
			continue; /* in a tree it is found by others */
		partner = merge_page(mm->e, bi, first + i, h->hash[i], h->zero[i], h->nid[i],
				     follow_partner(mm->e, &w->pal, i));
		if (partner != NIL)
			pair_up(w, mm->e, bi, first + i, partner, h->nid[i], i);
	}
	apply_budget(w, mm, bi);
}

/* --- pages bound to frames unread --- */

static bool frames_agree(struct scan_worker *w, struct mm_slot *mm, uint64_t pn,
			 const struct follow_run *run)
{
	for (unsigned int i = 0; i < FOLLOW_SAMPLES; i++) {
		const unsigned char *page = read_one(w, mm, pn + run->sample[i]);

		if (!page || page_hash(page, mm->e->hash_seed) != run->hash[i])
			return false;
	}
	return true;
}

/*
 * A run of pages is about to be read. Returns how many of them, from `first` on, were bound to
 * frames unread. If 0, pages of another client that may be equal were noted in w->pal.
 */
static unsigned int bind_unread(struct scan_worker *w, struct mm_slot *mm, uint32_t key,
				unsigned int first, unsigned int want)
{
	uint64_t pn = ((uint64_t)key << BLOCK_SHIFT) + first;
	struct follow_run run;
	unsigned int nr;

	engine_lock(mm->e);
	run = follow_frames(mm, key, first, want);
	follow_note(&w->pal, mm, pn, want);
	engine_unlock(mm->e);
	if (!run.nr || !frames_agree(w, mm, pn, &run))
		return 0;
	engine_lock(mm->e);
	nr = !engine_rests(mm->e) && allow_debt(mm->e, run.nr) ? follow_bind(mm, key, first, &run) :
								 0;
	if (nr) {
		mm->e->total.pages_scanned += FOLLOW_SAMPLES;
		apply_budget(w, mm, block_find(mm, key));
	}
	engine_unlock(mm->e);
	return nr;
}

/* --- pages read --- */

/* Zero, or the negative errno of the read; *nr pages are in the buffer. */
static int fetch(struct scan_worker *w, struct mm_slot *mm, uint64_t addr, unsigned int want,
		 unsigned int *nr)
{
	ssize_t n = mm->e->ops->read(mm->client, addr, w->buf, want * PAGE_BYTES);

	*nr = n > 0 ? (unsigned int)((size_t)n / PAGE_BYTES) : 0;
	return n < 0 ? (int)n : 0;
}

static void nids_of(struct engine *e, struct mm_slot *mm, uint64_t addr, unsigned int nr, int *nid)
{
	uint64_t v[BLOCK_PAGES];

	memset(nid, 0, nr * sizeof(*nid));
	if (e->nr_nodes == 1)
		return;
	for (unsigned int i = 0; i < nr; i++)
		v[i] = addr + i * PAGE_BYTES;
	e->ops->nid(mm->client, v, (int)nr, nid);
	for (unsigned int i = 0; i < nr; i++)
		if (nid[i] < 0 || nid[i] >= e->nr_nodes)
			nid[i] = NID_UNKNOWN;
}

/* The nr pages are in the buffer: do the samples of the other client equal theirs? */
static bool samples_agree(struct scan_worker *w, unsigned int nr)
{
	for (unsigned int i = 0; i < FOLLOW_SAMPLES; i++) {
		unsigned int at = w->pal.sample[i];
		const unsigned char *page = at < nr ? read_one(w, w->pal.mm, w->pal.pn + at) : NULL;

		if (!page || memcmp(page, w->buf + at * PAGE_BYTES, PAGE_BYTES))
			return false;
	}
	return true;
}

/*
 * Reads the other client's pages, too, and notes which of them equal those in the buffer. A frame
 * is filled only with contents that were read at two sites: a page that nobody else has must not
 * come to stand where another client can read it. Returns the pages read.
 */
static unsigned int compare_pal(struct scan_worker *w, unsigned int nr)
{
	const unsigned char *page = second_block(w);
	struct mm_slot *pal = w->pal.mm;
	ssize_t n;

	w->pal.equal = 0;
	if (!pal || !samples_agree(w, nr))
		return 0;
	n = pal->e->ops->read(pal->client, w->pal.pn * PAGE_BYTES, second_block(w),
			      nr * PAGE_BYTES);
	nr = n > 0 ? (unsigned int)((size_t)n / PAGE_BYTES) : 0;
	for (unsigned int i = 0; i < nr; i++, page += PAGE_BYTES)
		if (!memcmp(page, w->buf + i * PAGE_BYTES, PAGE_BYTES))
			w->pal.equal |= bit64(i);
	return nr;
}

/* Returns as read_run(), or 0: the first page cannot be read. */
static int read_and_hash(struct scan_worker *w, struct mm_slot *mm, uint32_t key,
			 unsigned int first, unsigned int want, int64_t *budget)
{
	uint64_t addr = key * BLOCK_BYTES + first * PAGE_BYTES;
	struct hashed h;
	unsigned int nr, beside;

	if (fetch(w, mm, addr, want, &nr) == -ESRCH)
		return -ESRCH;
	if (!nr)
		return 0;
	for (unsigned int i = 0; i < nr; i++) {
		const unsigned char *page = w->buf + i * PAGE_BYTES;

		h.hash[i] = page_hash(page, mm->e->hash_seed);
		h.zero[i] = h.hash[i] == mm->e->zero_hash && page_is_zero(page);
	}
	nids_of(mm->e, mm, addr, nr, h.nid);
	beside = compare_pal(w, nr);
	*budget -= beside;
	engine_lock(mm->e);
	mm->e->total.pages_scanned += nr + beside;
	for (unsigned int i = 0; i < nr; i++)
		if (h.nid[i] != NID_UNKNOWN)
			h.nid[i] = mm->e->home[h.nid[i]];
	match_hashes(w, mm, key, first, nr, &h);
	engine_unlock(mm->e);
	fill_write(&w->fill, mm->e, w->buf);
	return (int)nr;
}

/* The page cannot be read: it is not there, and tracking would show it again if it came back. */
static void unreadable(struct mm_slot *mm, uint32_t key, unsigned int slot)
{
	uint32_t bi;

	engine_lock(mm->e);
	bi = block_find(mm, key);
	if (bi != NIL && waits_for_hash(rmap_block(mm->e, bi), slot))
		page_drop(mm, bi, bit64(slot));
	engine_unlock(mm->e);
}

/* A run of pages of one block. Returns pages dealt with, at least 1, or -ESRCH, -ENOMEM. */
static int read_run(struct scan_worker *w, struct mm_slot *mm, uint32_t key, unsigned int first,
		    unsigned int want, int64_t *budget)
{
	int nr;

	if (!make_buffer(w, mm->e))
		return -ENOMEM;
	nr = (int)bind_unread(w, mm, key, first, want);
	if (!nr)
		nr = read_and_hash(w, mm, key, first, want, budget);
	follow_end(&w->pal);
	if (!nr) {
		unreadable(mm, key, first);
		nr = 1;
	}
	if (nr > 0)
		*budget -= nr;
	return nr;
}

int read_pages(struct scan_worker *w, struct mm_slot *mm, uint32_t key, uint64_t mask,
	       int64_t *budget)
{
	while (mask) {
		unsigned int first = low_bit(mask), nr = BLOCK_PAGES - first;
		uint64_t rest = ~(mask >> first);
		int done;

		if (rest && low_bit(rest) < nr)
			nr = low_bit(rest);
		done = read_run(w, mm, key, first, nr, budget);
		if (done < 0)
			return done;
		mask &= ~mask64(first, first + (unsigned int)done);
	}
	return 0;
}

/* Pages of the block that tracking has shown for the first time, and that lie in `at`. */
static uint64_t new_pages(struct mm_slot *mm, uint32_t key, struct span at) NEEDS(mm->e->lock)
{
	uint32_t bi = block_find(mm, key);
	const struct rmap_block *b;
	uint64_t mask;

	if (bi == NIL)
		return 0;
	b = rmap_block(mm->e, bi);
	mask = b->pending & ~b->fresh & block_mask(key, at);
	for (uint64_t m = mask; m; m &= m - 1)
		/* One in a huge page that has been written is left to next_pending() (scan.c). */
		if (!waits_for_hash(b, low_bit(m)) || item_age(&b->item[low_bit(m)]) >> 4)
			mask &= ~(m & -m);
	return mask;
}

int read_new(struct scan_worker *w, struct mm_slot *mm, struct span at, int64_t *budget)
{
	uint32_t last = (uint32_t)((at.end - 1) / BLOCK_BYTES);

	for (uint32_t key = (uint32_t)(at.start / BLOCK_BYTES); key <= last; key++) {
		uint64_t mask;
		int r;

		engine_lock(mm->e);
		mask = new_pages(mm, key, at);
		engine_unlock(mm->e);
		r = read_pages(w, mm, key, mask, budget);
		if (r)
			return r;
	}
	return 0;
}
