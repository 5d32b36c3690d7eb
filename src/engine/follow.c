/* SPDX-License-Identifier: MIT */
/*
 * follow.c - what stands beside equal pages is probably equal as well.
 *
 * Alike processes have alike memory for long stretches. When a page was paired with one of another
 * client, the pages after the two are taken for a pair, too, and only one of them is read and hashed.
 * When the page before stands on a frame and the next frames hold content, the pages are bound
 * to those frames without being read. A read and a hash cost 0.9 us a page, as much as all that is left
 * of a merge; so two equal clients are merged with one read for each pair, and the third and later
 * ones with none but samples.
 *
 * Safe because it is a guess like any other hash that agrees: the client compares every byte before it
 * maps a frame (merge.c). What a wrong guess costs is an order in vain, so it needs evidence: the left
 * neighbours agree, and so do three sample pages of every run, which are read. And it must have been
 * right before: a client whose guesses fail is not guessed about for a while.
 *
 * Only pages seen for the first time are guessed about. A page whose guess failed is hashed like any other.
 *
 * Two workers, each at one of two equal clients, would read the same pages side by side and gain nothing. So
 * who comes to new memory first has change tracking look at the other client's as well, and pairs
 * the two; the other worker finds nothing new there and goes on with the next stretch, for both.
 */
#include <string.h>

#include "engine/follow.h"
#include "engine/block.h"
#include "engine/budget.h"
#include "engine/core.h"
#include "engine/hash.h"
#include "engine/merge.h"
#include "engine/mm.h"
#include "engine/page.h"
#include "engine/settle.h"

#define MIN_RUN 8u /* pages from which on the samples are a small price */
/* Wrong guesses that are forgiven: so many, and one in eight. */
#define LOST_FREE 128u
#define LOST_SHARE 8u
#define FORGET_AT 65536u /* the past counts half from then on */

/* With a tree for each node, pages would have to be on the same one, which takes a call to know. */
static bool allowed(const struct engine *e, const struct mm_slot *mm)
{
	return (e->nr_nodes == 1 || e->merge_across) &&
	       mm->follow_lost <= LOST_FREE + mm->follow_won / LOST_SHARE;
}

void follow_outcome(struct mm_slot *mm, bool right)
{
	if (right)
		mm->follow_won++;
	else
		mm->follow_lost++;
	if (mm->follow_won + mm->follow_lost >= FORGET_AT) {
		mm->follow_won /= 2;
		mm->follow_lost /= 2;
	}
}

/*
 * Page of a run of nr >= FOLLOW_SAMPLES that is sample number i: one from each part of it, at no regular
 * distance, for what memory consists of often has one.
 */
static unsigned int sample_of(uint64_t pn, unsigned int nr, unsigned int i)
{
	unsigned int part = nr / FOLLOW_SAMPLES;

	/* Fibonacci hashing: 2^64 divided by the golden ratio. */
	return i * part + (unsigned int)(((pn + i) * 0x9e3779b97f4a7c15ull >> 32) % part);
}

/* Waits to be hashed, and was never looked at before. */
static bool is_new(const struct rmap_block *b, unsigned int slot)
{
	return b->state[slot] == RMAP_VOLATILE && !item_age(&b->item[slot]) &&
	       (b->pending & ~b->fresh & bit64(slot));
}

/* Item of a page that can be guessed about, or NIL. */
static uint32_t new_item(const struct mm_slot *mm, uint64_t pn)
{
	uint32_t bi = block_find(mm, (uint32_t)(pn >> BLOCK_SHIFT));

	if (bi == NIL || !is_new(rmap_block(mm->e, bi), pn % BLOCK_PAGES))
		return NIL;
	return bi * BLOCK_PAGES + (uint32_t)(pn % BLOCK_PAGES);
}

/* --- pairs --- */

void follow_pair(struct engine *e, uint32_t item, uint32_t partner)
{
	const struct rmap_block *b = rmap_block(e, item / BLOCK_PAGES),
				*p = rmap_block(e, partner / BLOCK_PAGES);

	block_mm(b)->trail = (struct trail){ block_pn(b, item % BLOCK_PAGES), partner };
	block_mm(p)->trail = (struct trail){ block_pn(p, partner % BLOCK_PAGES), item };
}

/* Where the pages from pn on would find their like. NULL: nowhere. */
static struct mm_slot *pal_of(const struct mm_slot *mm, uint64_t pn, uint64_t *at)
{
	const struct trail *t = &mm->trail;
	const struct rmap_block *b;
	struct mm_slot *pal;

	if (!t->pn || !slab_is_used(&mm->e->blocks, t->item / BLOCK_PAGES) || !allowed(mm->e, mm))
		return NULL;
	b = rmap_block(mm->e, t->item / BLOCK_PAGES);
	pal = block_mm(b);
	*at = block_pn(b, t->item % BLOCK_PAGES) + pn - t->pn;
	return pal != mm && !pal->dead && allowed(mm->e, pal) && *at < KSM_ADDR_END / PAGE_BYTES ?
		       pal :
		       NULL;
}

/* Lock held. Note the pages that may be equal to these, if there are any. */
static void note_pal(struct scan_worker *w, struct mm_slot *mm, uint64_t pn, unsigned int nr)
{
	uint64_t at;
	struct mm_slot *pal = nr < MIN_RUN ? NULL : pal_of(mm, pn, &at);
	unsigned int i;

	if (!pal)
		return;
	for (i = 0; i < FOLLOW_SAMPLES; i++) {
		w->sample[i] = (uint8_t)sample_of(pn, nr, i);
		if (new_item(pal, at + w->sample[i]) == NIL)
			return;
	}
	mm_get(pal);
	w->pal = pal;
	w->pal_pn = at;
}

struct mm_slot *follow_untracked(struct mm_slot *mm, uint64_t *start, uint64_t *end)
{
	struct mm_slot *pal;
	struct region *r = NULL;
	uint64_t at;
	uint32_t bi;

	engine_lock(mm->e);
	pal = pal_of(mm, *start / PAGE_BYTES, &at);
	if (pal) {
		bi = block_find(pal, (uint32_t)(at >> BLOCK_SHIFT));
		if (bi == NIL || !(rmap_block(mm->e, bi)->tracked & bit64(at % BLOCK_PAGES)))
			r = region_at(pal, at * PAGE_BYTES);
	}
	if (r) {
		uint64_t len = *end - *start;

		*start = at * PAGE_BYTES;
		*end = *start + len < r->end ? *start + len : r->end;
		mm_get(pal);
	}
	engine_unlock(mm->e);
	return r ? pal : NULL;
}

void follow_sample(struct scan_worker *w, struct engine *e, unsigned int nr)
{
	unsigned char *page = w->buf + BLOCK_BYTES;
	unsigned int i;

	w->follow = w->pal != NULL;
	for (i = 0; i < FOLLOW_SAMPLES && w->follow; i++)
		w->follow = w->sample[i] < nr &&
			    e->ops->read(w->pal->client, (w->pal_pn + w->sample[i]) * PAGE_BYTES,
					 page, PAGE_BYTES) == (ssize_t)PAGE_BYTES &&
			    !memcmp(page, w->buf + w->sample[i] * PAGE_BYTES, PAGE_BYTES);
}

uint32_t follow_partner(const struct scan_worker *w, unsigned int page)
{
	return w->follow ? new_item(w->pal, w->pal_pn + page) : NIL;
}

void follow_end(struct scan_worker *w)
{
	if (w->pal)
		mm_put(w->pal);
	w->pal = NULL;
	w->follow = false;
}

/* --- frames --- */

/* Node of the frame that follows those of the pages before, if it can take one more; or NIL. */
static uint32_t next_node(const struct engine *e, uint32_t frame)
{
	uint32_t node = frame < pool_nr_frames(&e->pool) ? pool_node(&e->pool, frame) : POOL_NONE;
	const struct stable_node *n;

	if (node == POOL_NONE)
		return NIL;
	n = stable_node(&e->stable, node);
	return n->state == STABLE_LIVE && n->filling <= STABLE_FILLING &&
			       n->nr_items + n->nr_ordered <
				       knob_get(e->knobs, KNOB_MAX_PAGE_SHARING) ?
		       node :
		       NIL;
}

/* How many of the pages from (bi, slot) on may be bound to the frames from `frame` on. */
static unsigned int run_of_frames(const struct engine *e, const struct rmap_block *b,
				  unsigned int slot, unsigned int nr, uint32_t frame)
{
	unsigned int i;

	for (i = 0; i < nr && is_new(b, slot + i) && next_node(e, frame + i) != NIL; i++)
		;
	return i;
}

/* Lock held. The run, its first frame, and the hashes that its samples should have. */
static unsigned int find_frames(struct mm_slot *mm, uint32_t key, unsigned int first,
				unsigned int nr, uint32_t *frame, uint64_t hash[FOLLOW_SAMPLES])
{
	struct engine *e = mm->e;
	uint32_t bi = block_find(mm, key);
	uint64_t pn = ((uint64_t)key << BLOCK_SHIFT) + first;
	unsigned int i;

	*frame = POOL_NONE;
	if (bi == NIL || !allowed(e, mm))
		return 0;
	*frame = page_frame_after_left(e, bi, first);
	if (*frame == POOL_NONE)
		return 0;
	nr = run_of_frames(e, rmap_block(e, bi), first, nr, *frame);
	if (nr < MIN_RUN)
		return 0;
	for (i = 0; i < FOLLOW_SAMPLES; i++)
		hash[i] =
			stable_node(&e->stable, next_node(e, *frame + sample_of(pn, nr, i)))->hash;
	return nr;
}

/* Lock held. Bind pages to the frames whose samples agreed, if these still are the ones to be bound to. */
static unsigned int bind_frames(struct scan_worker *w, struct mm_slot *mm, uint32_t key,
				unsigned int first, unsigned int nr, uint32_t frame)
{
	uint64_t hash[FOLLOW_SAMPLES];
	uint32_t now, bi = block_find(mm, key);
	unsigned int i;

	nr = find_frames(mm, key, first, nr, &now, hash);
	if (!nr || now != frame)
		return 0;
	for (i = 0; i < nr; i++)
		merge_bind(mm->e, bi, first + i, next_node(mm->e, frame + i));
	mm->e->pages_scanned += FOLLOW_SAMPLES;
	budget_refuse_early(w, mm->e, bi);
	return nr;
}

unsigned int follow_begin(struct scan_worker *w, struct mm_slot *mm, uint32_t key,
			  unsigned int first, unsigned int want)
{
	struct engine *e = mm->e;
	uint64_t pn = ((uint64_t)key << BLOCK_SHIFT) + first, hash[FOLLOW_SAMPLES];
	unsigned char *page = w->buf + BLOCK_BYTES;
	unsigned int i, nr;
	uint32_t frame;

	engine_lock(e);
	nr = find_frames(mm, key, first, want, &frame, hash);
	note_pal(w, mm, pn, want);
	engine_unlock(e);
	if (!nr)
		return 0;
	for (i = 0; i < FOLLOW_SAMPLES; i++)
		if (e->ops->read(mm->client, (pn + sample_of(pn, nr, i)) * PAGE_BYTES, page,
				 PAGE_BYTES) != (ssize_t)PAGE_BYTES ||
		    page_hash(page, e->hash_seed) != hash[i])
			return 0;
	engine_lock(e);
	nr = bind_frames(w, mm, key, first, nr, frame);
	engine_unlock(e);
	return nr;
}
