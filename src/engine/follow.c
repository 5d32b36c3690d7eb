/* SPDX-License-Identifier: MIT */
/*
 * follow.c - what stands beside equal pages is probably equal as well.
 *
 * Alike processes have alike memory for long stretches. When a worker paired a page with one of
 * another client, it reads the pages after the two side by side and compares them, which saves
 * hashing half of them. When the page before stands on a frame and the next frames hold content, it
 * binds the pages to those frames without reading them. A read and a hash cost 0.9 us a page, as
 * much as all that is left of a merge. So the third and later of equal clients are merged with no
 * reads but samples. Zeros follow zeros in the same way: of memory that was never used, as an idle
 * guest has much, three pages of 64 are read.
 *
 * Safe for contents because a binding is a guess like any other hash that agrees: the client
 * compares every byte before it maps a frame (merge.c), or gives a page back as zeros. Safe for
 * secrets because a frame is filled only with bytes that were read at two sites: a pair is made of
 * pages that were compared, and a page that was not read is bound only to a frame that exists
 * already, whose contents every member of the domain may know. (Pairs were guesses once, too: 160
 * to 176 of 256 pages that existed once were read by another process that way, because the frame
 * was filled before anybody compared.)
 *
 * A wrong guess costs an order in vain, so it needs evidence: the left neighbours agree, and so do
 * three sample pages of every run, which the worker reads. And guesses must have been right before:
 * a client whose guesses fail is not guessed about for a while. Guesses about zeros and about
 * frames are counted apart: memory in which zeros lie at random says nothing of the rest.
 *
 * Only pages seen for the first time are guessed about. A page whose guess failed is hashed like
 * any other.
 *
 * Two workers, each at one of two equal clients, would hash the same pages side by side and gain
 * nothing. So the worker that reaches new memory first also tracks the matching range of the other
 * client, and pairs the two. The other worker finds nothing new there and goes on with the next
 * stretch, for both.
 */
#include "engine/follow.h"
#include "engine/block.h"
#include "engine/crowd.h"
#include "engine/mm.h"
#include "engine/page.h"

#define MIN_RUN 8u /* pages from which on the samples are a small price */
/* Wrong guesses that are forgiven: so many, and one in eight. */
#define LOST_FREE 128u
#define LOST_SHARE 8u
#define FORGET_AT 65536u /* the past counts half from then on */

/* Were guesses about frames, or about zeros, right so far? */
static bool trusted(const struct mm_slot *mm, bool zero)
{
	const struct follow_score *s = &mm->follow_score[zero];

	return s->lost <= LOST_FREE + s->won / LOST_SHARE;
}

/* With a tree for each nid the pages would have to be on the same one, which takes a call. */
static bool allowed(const struct engine *e, const struct mm_slot *mm)
{
	return (e->nr_nodes == 1 || e->merge_across) && trusted(mm, false);
}

void follow_outcome(struct mm_slot *mm, bool zero, bool right)
{
	struct follow_score *s = &mm->follow_score[zero];

	if (right)
		s->won++;
	else
		s->lost++;
	if (s->won + s->lost >= FORGET_AT) {
		s->won /= 2;
		s->lost /= 2;
	}
}

/*
 * Page of a run of nr >= FOLLOW_SAMPLES that is sample number i: one from each part of it, at no
 * regular distance, because memory often consists of things at one.
 */
static uint8_t sample_of(uint64_t pn, unsigned int nr, unsigned int i)
{
	unsigned int part = nr / FOLLOW_SAMPLES;

	/* Fibonacci hashing: 2^64 divided by the golden ratio. */
	return (uint8_t)(i * part + (((pn + i) * 0x9e3779b97f4a7c15ull >> 32) % part));
}

/* Does the page wait to be hashed for the first time? */
static bool is_new(const struct rmap_block *b, unsigned int slot)
{
	return b->state[slot] == RMAP_VOLATILE && !item_age(&b->item[slot]) &&
	       (b->pending & ~b->fresh & bit64(slot));
}

/* Item of a page that can be guessed about, or NIL. */
static uint32_t new_item(const struct mm_slot *mm, uint64_t pn) NEEDS(mm->e->lock)
{
	uint32_t bi = block_find(mm, (uint32_t)(pn >> BLOCK_SHIFT));

	if (bi == NIL || !is_new(rmap_block(mm->e, bi), pn % BLOCK_PAGES))
		return NIL;
	return item_index(bi, pn % BLOCK_PAGES);
}

/* --- pairs --- */

static void leave_trail(const struct engine *e, uint32_t item, uint32_t partner) NEEDS(e->lock)
{
	const struct rmap_block *b = rmap_block(e, item / BLOCK_PAGES);

	block_mm(b)->trail = (struct trail){ block_pn(b, item % BLOCK_PAGES), partner };
}

void follow_pair(struct engine *e, uint32_t item, uint32_t partner)
{
	leave_trail(e, item, partner);
	leave_trail(e, partner, item);
}

/* Where the pages from pn on would find their like: the client, and *at. NULL: nowhere. */
static struct mm_slot *pal_of(const struct mm_slot *mm, uint64_t pn, uint64_t *at)
	NEEDS(mm->e->lock)
{
	const struct trail *t = &mm->trail;
	const struct rmap_block *b;
	struct mm_slot *pal;

	/* Contents that may have to wait are paired by their hashes: merge.c. */
	if (crowds_wanted(mm->e) || !t->pn ||
	    !slab_is_used(&mm->e->blocks, t->item / BLOCK_PAGES) || !allowed(mm->e, mm))
		return NULL;
	b = rmap_block(mm->e, t->item / BLOCK_PAGES);
	pal = block_mm(b);
	*at = block_pn(b, t->item % BLOCK_PAGES) + pn - t->pn;
	if (pal == mm || pal->dead || !allowed(mm->e, pal) || *at >= KSM_ADDR_END / PAGE_BYTES)
		return NULL;
	return pal;
}

void follow_note(struct pal *pal, const struct mm_slot *mm, uint64_t pn, unsigned int nr)
{
	struct mm_slot *other;
	uint64_t at;

	if (nr < MIN_RUN || !(other = pal_of(mm, pn, &at)))
		return;
	mm_is_of(other, mm->e);
	for (unsigned int i = 0; i < FOLLOW_SAMPLES; i++) {
		pal->sample[i] = sample_of(pn, nr, i);
		if (new_item(other, at + pal->sample[i]) == NIL)
			return;
	}
	mm_get(other);
	pal->mm = other;
	pal->pn = at;
}

uint32_t follow_partner(const struct engine *e, const struct pal *pal, unsigned int page)
{
	if (!(pal->equal & bit64(page)))
		return NIL;
	mm_is_of(pal->mm, e);
	return new_item(pal->mm, pal->pn + page);
}

void follow_end(struct pal *pal)
{
	if (pal->mm)
		mm_put(pal->mm);
	pal->mm = NULL;
	pal->equal = 0;
}

struct mm_slot *follow_untracked(const struct mm_slot *mm, struct span *at)
{
	uint64_t pn, len = span_len(*at);
	struct mm_slot *pal = pal_of(mm, at->start / PAGE_BYTES, &pn);
	const struct region *r;
	uint32_t bi;

	if (!pal)
		return NULL;
	mm_is_of(pal, mm->e);
	bi = block_find(pal, (uint32_t)(pn >> BLOCK_SHIFT));
	if (bi != NIL && (rmap_block(mm->e, bi)->tracked & bit64(pn % BLOCK_PAGES)))
		return NULL;
	r = region_at(pal, pn * PAGE_BYTES);
	if (!r)
		return NULL;
	*at = (struct span){ huge_down(pn * PAGE_BYTES), huge_up(pn * PAGE_BYTES + len) };
	*at = span_clip(*at, r->at);
	mm_get(pal);
	return pal;
}

/* --- frames --- */

/* Node of that frame, which follows those of the pages before, if it can take one more; or NIL. */
static uint32_t next_node(const struct engine *e, uint32_t frame) NEEDS(e->lock)
{
	uint32_t node = frame < pool_nr_frames(&e->pool) ? pool_word(&e->pool, frame) : POOL_NONE;
	const struct stable_node *n;

	if (node == POOL_NONE)
		return NIL;
	n = stable_node(&e->stable, node);
	if (n->state != STABLE_LIVE || n->filling > STABLE_FILLING ||
	    !stable_takes(n, knob_get(e->knobs, KNOB_MAX_PAGE_SHARING)))
		return NIL;
	return node;
}

/* How many of the pages from (bi, slot) on may be bound to the frames from `frame` on. */
static unsigned int run_of_frames(const struct engine *e, const struct rmap_block *b,
				  unsigned int slot, unsigned int nr, uint32_t frame) NEEDS(e->lock)
{
	unsigned int i;

	for (i = 0; i < nr && is_new(b, slot + i) && next_node(e, frame + i) != NIL; i++)
		;
	return i;
}

/* The same for zeros. */
static unsigned int run_of_new(const struct rmap_block *b, unsigned int slot, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr && is_new(b, slot + i); i++)
		;
	return i;
}

/* May zeros go on after a page that is zero? They are given back whatever else holds. */
static bool zeros_may_follow(const struct mm_slot *mm, uint32_t bi, unsigned int first)
	NEEDS(mm->e->lock)
{
	return trusted(mm, true) && knob_get(mm->e->knobs, KNOB_USE_ZERO_PAGES) &&
	       page_left_is_zero(mm->e, bi, first);
}

/* Node that page i of the run would be bound to. */
static uint32_t node_of(const struct engine *e, const struct follow_run *run, unsigned int i)
	NEEDS(e->lock)
{
	return run->frame == KSM_FRAME_ZERO ? NODE_ZERO : next_node(e, run->frame + i);
}

static void choose_samples(const struct engine *e, uint64_t pn, struct follow_run *run)
	NEEDS(e->lock)
{
	for (unsigned int i = 0; i < FOLLOW_SAMPLES; i++) {
		uint32_t node;

		run->sample[i] = sample_of(pn, run->nr, i);
		node = node_of(e, run, run->sample[i]);
		run->hash[i] = node == NODE_ZERO ? e->zero_hash :
						   stable_node(&e->stable, node)->hash;
	}
}

struct follow_run follow_frames(const struct mm_slot *mm, uint32_t key, unsigned int first,
				unsigned int nr)
{
	struct follow_run run = { 0 };
	uint32_t bi = block_find(mm, key);
	const struct rmap_block *b;

	if (bi == NIL)
		return run;
	b = rmap_block(mm->e, bi);
	if (zeros_may_follow(mm, bi, first)) {
		run.frame = KSM_FRAME_ZERO;
		nr = run_of_new(b, first, nr);
	} else if (allowed(mm->e, mm) && !knob_get(mm->e->knobs, KNOB_MERGE_DELAY_MILLISECS)) {
		run.frame = page_frame_after_left(mm->e, bi, first);
		nr = run.frame == POOL_NONE ? 0 : run_of_frames(mm->e, b, first, nr, run.frame);
	} else {
		nr = 0;
	}
	if (nr < MIN_RUN)
		return run;
	run.nr = nr;
	choose_samples(mm->e, ((uint64_t)key << BLOCK_SHIFT) + first, &run);
	return run;
}

unsigned int follow_bind(struct mm_slot *mm, uint32_t key, unsigned int first,
			 const struct follow_run *run)
{
	struct follow_run now = follow_frames(mm, key, first, run->nr);
	uint32_t bi = block_find(mm, key);

	if (!now.nr || now.frame != run->frame)
		return 0;
	for (unsigned int i = 0; i < now.nr; i++)
		page_set_guessed(mm->e, bi, first + i, node_of(mm->e, &now, i));
	return now.nr;
}
