/* SPDX-License-Identifier: MIT */
/*
 * gather.c - frames are brought next to each other where pages of a client are, so mappings join.
 *
 * Neighbouring pages of a client need one mapping if they stand on neighbouring frames, and one
 * each if not. Frames get their numbers when a pair is found, from what is known then: in the order
 * of one client, or of another, or where there was a gap; clients that had the same pages in their
 * order have left since. Once merging has come to rest it is known which pages stay together.
 *
 * A frame with sharers in several orders cannot suit them all: it has one neighbour to the right.
 * So nobody is asked which client is to be suited. Each stretch of each client is a proposal: its
 * pages side by side, where most of them are already, or in the client's window, or in a new one.
 * What a proposal costs or saves *all* clients is counted page by page (relocation.c), pieces that
 * cost more than they save are taken out of it, and the best is carried out if it pays. So mappings
 * go down with each, and two clients in different orders end with one of them in order, which is
 * as few mappings as there can be.
 *
 * Each stretch alone may seem not to be worth it, where two clients have the half of their order
 * each: it parts frames that are neighbours for the other client, and what is gained by these comes
 * with other stretches. So of two clients the one that is better off counts in full, and what the
 * other loses counts half, as if more were to follow (relocation.c). But nothing is carried out
 * that would add more mappings than the walk has saved so far, so their number never rises. And
 * what saves nothing by itself is begun for AHEAD mappings at least: where a process has forked the
 * kernel does not join all that could be joined, so a swap of one for one may end with one more
 * (seen with apache, 187 before and 188 after).
 *
 * It pays if each mapping that is saved costs no more than PAY pages that change their frame, of
 * which each costs its client about 6 us, once; a mapping costs 232 bytes of the kernel's memory,
 * up to half a microsecond in every pass, and, where a client's budget is spent, a page that is not
 * merged.
 *
 * Safe because it only chooses. The mover moves the frames (migrate.c): the agents compare every
 * byte, no order goes beyond a client's budget, not even for a moment (budget.c), and what fails
 * stays where it is.
 */
#include "engine/gather.h"

#include <string.h>

#include "engine/layout.h"
#include "engine/mm.h"
#include "engine/page.h"
#include "engine/vma.h"
#include "engine/block.h"

#define PAGES ((uint32_t)WINDOW_PAGES) /* of a stretch */
#define PAY 16u                        /* pages that may change their frame for a mapping less */
#define AHEAD 8                        /* mappings that a swap must be worth to begin with */
#define SITES_MAX 2048u   /* pages on the frames of a stretch that may move: some milliseconds */
#define VISIT 64u         /* stretches looked at under one hold of the lock */
#define AGAIN_MAX 4u      /* times that something is moved in a stretch, in one walk */
#define WALKS_MAX 4u      /* over all clients, while the last one moved something */
#define WINDOW_LEAST 32u  /* a group of so many pages may have a window made anew */
#define FRESH 0xf0000000u /* frames of a window that is still to be made */

/* Pages [first, first + nr) of a stretch, all in mappings of frames and in one region. */
struct group {
	uint32_t first, nr;
};

/* A stretch of a client: frames that its pages' mappings show, and the frame before it. */
struct stretch {
	struct mm_slot *mm;
	int nid;
	uint64_t pn; /* of its first page */
	uint32_t before, frame[WINDOW_PAGES];
	bool movable[WINDOW_PAGES]; /* first: it is merged; later: and its frame may move */
	uint32_t sites;             /* pages on the frames that may */
	uint32_t window;            /* first frame of its window, or POOL_NONE */
};

/* A way, and its price. No frames: it is not one. */
struct proposal {
	struct relocation way;
	struct relocation_price price;
	bool fresh; /* in a new window */
};

/* --- what is there --- */

bool gather_is_movable(const struct engine *e, uint32_t frame)
{
	const struct stable_node *n;
	uint32_t node = pool_word(&e->pool, frame);

	if (node == POOL_NONE)
		return false;
	n = stable_node(&e->stable, node);
	return n->state == STABLE_LIVE && !n->filling && !n->isolated && !n->away &&
	       n->nid == pool_nid(&e->pool, frame);
}

/*
 * Can the frame be moved with all its pages? None of them is left unanswered by its client, and
 * there are not too many for one stretch.
 */
static bool is_movable(struct stretch *s, uint32_t frame) NEEDS(s->mm->e->lock)
{
	const struct engine *e = s->mm->e;
	const struct stable_node *n;

	if (!gather_is_movable(s->mm->e, frame) || pool_nid(&e->pool, frame) != s->nid)
		return false;
	n = stable_node(&e->stable, pool_word(&e->pool, frame));
	if (n->nr_ordered || n->nr_items > SITES_MAX - s->sites)
		return false;
	for (uint32_t i = n->first; i != NIL; i = rmap_item(e, i)->s.next)
		if (block_mm(rmap_block(e, i / BLOCK_PAGES))->move_silent)
			return false;
	s->sites += n->nr_items;
	return true;
}

/* False: no page of it stands on a frame. */
static bool look(struct mm_slot *mm, int nid, uint64_t pn, struct stretch *s) NEEDS(mm->e->lock)
{
	const struct engine *e = mm->e;
	bool any = false;

	for (uint32_t i = 0; i < PAGES; i += BLOCK_PAGES) {
		uint32_t bi = block_find(mm, (uint32_t)((pn + i) >> BLOCK_SHIFT));
		const struct rmap_block *b = bi == NIL ? NULL : rmap_block(e, bi);

		for (unsigned int k = 0; k < BLOCK_PAGES; k++) {
			uint32_t f = b ? vma_frame(mm->e, b, k) : FRAME_NONE;

			s->frame[i + k] = f == KSM_FRAME_ZERO ? FRAME_NONE : f;
			s->movable[i + k] = b && rmap_state(b, k) == RMAP_MERGED;
			any |= s->frame[i + k] != FRAME_NONE;
		}
	}
	s->mm = mm;
	s->sites = 0;
	s->nid = nid;
	s->pn = pn;
	s->before = pn ? vma_frame_at(mm, pn - 1) : FRAME_NONE;
	s->window = layout_window(mm, pn, nid);
	return any;
}

/* The first group from page i on. nr is 0 at the end. */
static struct group next_group(const struct stretch *s, uint32_t i) NEEDS(s->mm->e->lock)
{
	const struct region *r;
	struct group g = { i, 0 };
	uint64_t end;

	while (g.first < PAGES && s->frame[g.first] == FRAME_NONE)
		g.first++;
	if (g.first == PAGES)
		return g;
	r = region_at(s->mm, (s->pn + g.first) << PAGE_SHIFT);
	end = r ? r->at.end >> PAGE_SHIFT : 0;
	while (g.first + g.nr < PAGES && s->frame[g.first + g.nr] != FRAME_NONE &&
	       (!g.nr || s->pn + g.first + g.nr < end))
		g.nr++;
	return g;
}

/* Does a mapping begin at page i of a group? */
static bool is_edge(const struct stretch *s, const struct group *g, uint32_t i)
{
	return i > g->first && vma_differ(s->frame[i - 1], s->frame[i]);
}

static uint32_t nr_edges(const struct stretch *s, const struct group *g)
{
	uint32_t nr = s->before != FRAME_NONE && !g->first && vma_differ(s->before, s->frame[0]);

	for (uint32_t i = g->first; i < g->first + g->nr; i++)
		nr += is_edge(s, g, i);
	return nr;
}

/* Where the longest run of the group would have the first page of the stretch. */
static uint32_t longest(const struct stretch *s, const struct group *g)
{
	uint32_t at = g->first, best = g->first, most = 0;

	for (uint32_t i = g->first; i < g->first + g->nr; i++) {
		if (is_edge(s, g, i))
			at = i;
		if (i - at >= most) {
			most = i - at;
			best = at;
		}
	}
	return s->frame[best] - best;
}

/* --- proposals --- */

/* May frame `f` be had for a page of this stretch? Others' windows and new pageblocks are not. */
static bool is_place(const struct stretch *s, uint32_t f) NEEDS(s->mm->e->lock)
{
	const struct pool *p = &s->mm->e->pool;
	const struct pageblock *pb;

	if (f >= FRESH)
		return true;
	if (!pool_is_free(p, s->nid, f) || pool_is_absent(p, f))
		return false;
	pb = pool_pageblock(p, f);
	return pb->type == POOL_MOVABLE && !pb->large &&
	       (!pb->window || f - f % PAGEBLOCK_FRAMES == s->window);
}

/* Each page of the group whose frame can be moved goes where `base` would have it. */
static void propose(const struct stretch *s, const struct group *g, uint32_t base,
		    struct relocation *way) NEEDS(s->mm->e->lock)
{
	way->nr = 0;
	for (uint32_t i = g->first; i < g->first + g->nr; i++)
		if (s->movable[i] && s->frame[i] != base + i && is_place(s, base + i) &&
		    relocation_of(way, s->frame[i]) == POOL_NONE)
			relocation_add(way, s->frame[i], base + i);
}

/* What goes as one: frames of the way side by side, and the new ones, too. Where it ends. */
static uint32_t piece_end(const struct relocation *way, uint32_t i)
{
	uint32_t k = i + 1;

	while (k < way->nr && way->at[k].from == way->at[k - 1].from + 1 &&
	       way->at[k].to == way->at[k - 1].to + 1)
		k++;
	return k;
}

static void remove_piece(struct relocation *way, uint32_t from, uint32_t to)
{
	memmove(way->at + from, way->at + to, (way->nr - to) * sizeof(*way->at));
	way->nr -= to - from;
}

/* What it is worth beyond what it costs, in halves of pages that change their frame. */
static int64_t worth(const struct relocation_price *p)
{
	return -p->expected * (int64_t)PAY - 2 * (int64_t)p->sites;
}

static bool pays(const struct relocation_price *p)
{
	return !p->too_many && !p->refused && worth(p) > 0;
}

/* Does it save mappings by itself, or may it lead to so many that it is begun for that? */
static bool is_worth_a_start(const struct relocation_price *p)
{
	return p->more < 0 || p->expected <= -2 * AHEAD;
}

/* Take out the pieces without which the others are worth more. */
static void prune(struct mm_slot *mm, struct relocation *way) NEEDS(mm->e->lock)
{
	for (uint32_t i = 0, k; i < way->nr;) {
		struct relocation_price price;

		k = piece_end(way, i);
		price = relocation_price(mm->e, way, i, k, mm);
		if (pays(&price))
			i = k;
		else
			remove_piece(way, i, k);
	}
}

/* Keep the proposal if it is better than the best so far, and adds no more mappings than it may. */
static void consider(const struct stretch *s, const struct group *g, uint32_t base, int64_t may_add,
		     struct proposal *best) NEEDS(s->mm->e->lock)
{
	struct proposal p = { .fresh = base == FRESH };

	/* The run lies so low that the stretch would begin before the first frame. */
	if (base > FRESH)
		return;
	propose(s, g, base, &p.way);
	prune(s->mm, &p.way);
	p.price = relocation_price(s->mm->e, &p.way, 0, p.way.nr, s->mm);
	if (pays(&p.price) && p.price.more <= may_add && is_worth_a_start(&p.price) &&
	    (!best->way.nr || worth(&p.price) > worth(&best->price)))
		*best = p;
}

/* If something better than the best so far can be done for a group, that is the best. */
static void best_of(struct stretch *s, const struct group *g, int64_t may_add,
		    struct proposal *best) NEEDS(s->mm->e->lock)
{
	for (uint32_t i = g->first; i < g->first + g->nr; i++)
		s->movable[i] = s->movable[i] && is_movable(s, s->frame[i]);
	consider(s, g, longest(s, g), may_add, best);
	if (!g->first && s->before != FRAME_NONE)
		consider(s, g, s->before + 1, may_add, best);
	if (s->window != POOL_NONE)
		consider(s, g, s->window, may_add, best);
	if (g->nr >= WINDOW_LEAST)
		consider(s, g, FRESH, may_add, best);
}

/* The new window is made. False: there is none. */
static bool settle_fresh(struct stretch *s, struct relocation *way) NEEDS(s->mm->e->lock)
{
	uint32_t first = layout_new_window(s->mm, s->pn, s->nid);

	for (uint32_t i = 0; first != POOL_NONE && i < way->nr; i++)
		way->at[i].to = way->at[i].to - FRESH + first;
	return first != POOL_NONE;
}

/* The best of what can be done for one group of a stretch. The others have their turn later. */
static bool choose(struct stretch *s, struct gather_cursor *at, struct gather_seen *seen,
		   struct relocation *way) NEEDS(s->mm->e->lock)
{
	int64_t now = (int64_t)gather_score(s->mm->e).vmas, may_add = at->saved;
	struct proposal best = { .fresh = false };
	bool edges = false;

	/* What was to be saved may not have been, because some could not be moved. */
	if (may_add > at->vmas - now)
		may_add = at->vmas > now ? at->vmas - now : 0;

	for (struct group g = next_group(s, 0); g.nr; g = next_group(s, g.first + g.nr)) {
		if (!nr_edges(s, &g))
			continue;
		edges = true;
		best_of(s, &g, may_add, &best);
	}
	seen->stretches += edges;
	if (best.way.nr && (!best.fresh || settle_fresh(s, &best.way))) {
		*way = best.way;
		at->saved -= best.price.more;
		return true;
	}
	seen->skipped += edges;
	return false;
}

/* --- the walk --- */

static void next_client(struct gather_cursor *at, uint64_t serial)
{
	at->serial = serial;
	at->addr = 0;
	at->tries = 0;
}

/* The cursor's client, or the first one after it; NULL: there is none. */
static struct mm_slot *client_at(struct engine *e, struct gather_cursor *at) NEEDS(e->lock)
{
	struct mm_slot *mm;

	cds_list_for_each_entry(mm, &e->mms, list) {
		if (mm->serial < at->serial)
			continue;
		if (mm->serial > at->serial)
			next_client(at, mm->serial);
		return mm;
	}
	return NULL;
}

/* Page number of the next stretch in which the client offers memory; false: none is left. */
static bool next_stretch(const struct mm_slot *mm, struct gather_cursor *at, uint64_t *pn)
	NEEDS(mm->e->lock)
{
	const struct region *r = region_on(mm->regions, region_find(mm->regions, at->addr));

	if (!r)
		return false;
	if (at->addr < r->at.start)
		at->addr = r->at.start;
	*pn = at->addr / WINDOW_BYTES * PAGES;
	at->addr = (*pn + PAGES) << PAGE_SHIFT;
	return true;
}

/* What was looked at last was empty: go on where the client's next block is. */
static void skip_empty(const struct mm_slot *mm, struct gather_cursor *at) NEEDS(mm->e->lock)
{
	uint32_t key;

	if (!at->empty)
		return;
	at->empty = false;
	key = block_first_key(mm, (uint32_t)(at->addr / BLOCK_BYTES));
	at->addr = key == UINT32_MAX ? KSM_ADDR_END :
				       key * BLOCK_BYTES / WINDOW_BYTES * WINDOW_BYTES;
}

enum gather gather_next(struct engine *e, int nid, struct gather_cursor *at,
			struct gather_seen *seen, struct relocation *way)
{
	struct mm_slot *mm = client_at(e, at);
	unsigned int nr_empty = 0;
	struct stretch s;
	uint64_t pn;
	bool any;

	if (!at->vmas)
		at->vmas = (int64_t)gather_score(e).vmas;
	if (!mm && at->found && ++at->walks < WALKS_MAX) {
		at->serial = 0;
		at->found = false;
		return GATHER_MORE;
	}
	if (!mm)
		return GATHER_END;
	mm_is_of(mm, e);
	skip_empty(mm, at);
	for (unsigned int n = 0; n < VISIT; n++) {
		uint64_t before = seen->stretches;

		if (!mm->vmas_ours || !next_stretch(mm, at, &pn)) {
			next_client(at, mm->serial + 1);
			break;
		}
		any = look(mm, nid, pn, &s);
		mm_is_of(s.mm, e);
		if (any && choose(&s, at, seen, way)) {
			at->found = true;
			/* There may be more; or it failed, and is proposed again. */
			if (++at->tries < AGAIN_MAX)
				at->addr = pn << PAGE_SHIFT;
			else
				at->tries = 0;
			return GATHER_FOUND;
		}
		at->tries = 0;
		if (seen->stretches != before)
			return GATHER_MORE;
		nr_empty += !any;
	}
	at->empty = nr_empty == VISIT;
	return GATHER_MORE;
}

struct gather_score gather_score(struct engine *e)
{
	return (struct gather_score){ e->vmas_ours, e->nr_state[RMAP_MERGED] };
}
