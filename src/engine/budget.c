/* SPDX-License-Identifier: MIT */
/*
 * budget.c - which pages may cost their client a mapping.
 *
 * A page whose frame continues neither neighbour's costs up to two mappings, of which a process may
 * have vm.max_map_count. The engine counts what an order would add exactly (vma.c counts what is
 * there), run by run, before it sends the order, and holds that back until the outcome is known: so
 * a client never runs out of mappings because of merging. Pages that do not fit are refused, and
 * looked up again when there is room.
 *
 * Where equal pages alternate with others, each run of them costs two mappings: its own, and that
 * of what lies behind it. Where there is no room for that, the pages behind, if they are few,
 * become private pages in the mapping of the run: they are inlaid. Then a run costs one mapping,
 * and none if its frame is that of the run before, as many pages on. The page stays private and is
 * the client's own; whoever is in the domain sees no more of it than before. It costs the client a
 * copy, and the kernel's test for pins, which it has for anonymous mappings only. So it is done
 * only where mappings are short, and the client refuses while the process has means of pinning.
 *
 * A frame that one page alone gets a mapping for saves nothing. If two clients with the same
 * scattered contents each took the pages that come first in its own memory, they would agree in a
 * quarter of the contents where each has room for half. So where there is not room for all, single
 * pages are chosen by their contents: a page whose frame has a site already comes first, and of the
 * others those whose hashes are below a bound, which is the part that there is room for. Clients
 * that are alike have the same bound, and so the same contents.
 */
#include "engine/budget.h"
#include "engine/block.h"
#include "engine/forks.h"
#include "engine/mm.h"
#include "engine/page.h"
#include "engine/vma.h"

/* --- how much there is --- */

/* What vm.max_map_count leaves to merging. */
static uint64_t share(const struct mm_slot *mm)
{
	return (uint64_t)mm->max_map_count * knob_get(mm->e->knobs, KNOB_VMA_BUDGET_PERCENT) / 100;
}

uint64_t budget_limit(const struct mm_slot *mm)
{
	uint64_t limit = forks_limit(mm);

	return limit == UINT64_MAX ? share(mm) : u64_min(mm->vmas_own + limit, share(mm));
}

bool budget_is_for_forks(const struct mm_slot *mm)
{
	return budget_limit(mm) < share(mm);
}

void budget_tell_forks(struct mm_slot *mm)
{
	uint64_t left = mm->left[KSM_LEFT_VMA_BUDGET];
	bool told = budget_is_for_forks(mm);

	if (told != mm->forks.told)
		mm->e->left_for_forks += told ? left : -left;
	mm->forks.told = told;
}

uint64_t budget_used(const struct mm_slot *mm)
{
	return mm->vmas_own + mm->vmas_ours + mm->vmas_reserved;
}

/*
 * The steps leave the longer runs a share of what is left each time: half of the budget is for
 * everybody, the last eighth for runs of 16. When a pass is over the longer runs need it no more; a
 * thirty-second is kept for long runs that may come later.
 */
int budget_level(const struct mm_slot *mm)
{
	uint64_t used = budget_used(mm), limit = budget_limit(mm);

	if (used >= limit)
		return 4;
	if (mm->vmas_released)
		return used < limit - limit / 32 ? 0 : 3;
	if (used * 100 < limit * 50)
		return 0;
	if (used * 100 < limit * 75)
		return 1;
	return used * 100 < limit * 87 ? 2 : 3;
}

/* Shortest run that may add a mapping at this level; UINT32_MAX: none may. */
static uint32_t min_run(int level)
{
	static const uint32_t run[] = { 1, 2, 4, 16, UINT32_MAX };

	return run[level];
}

/*
 * After the pass no longer run can be found, and single pages get what is left. If there is not
 * enough for all that wait, workers make frames for some of them in vain; so a little more may wait
 * than there is room for, not much more.
 */
bool budget_may_wait(const struct mm_slot *mm)
{
	return budget_used(mm) + mm->nr_ready < budget_limit(mm) + budget_limit(mm) / 8;
}

/* --- what an order would cost --- */

#define INLAY_REST 64u /* passes until a client is asked again that could inlay nothing */
#define INLAY_PAGES 8u /* between two runs: a copy costs a third of what a mapping does */

/* A block as an order would leave it, for counting mappings. Index 0 is the page before slot 0. */
struct picture {
	uint32_t frame[VMA_ROW];
	bool inner[BLOCK_PAGES + 1]; /* boundary before slot i is inside a region */
	uint64_t plain;              /* pages that are private memory with a mapping of its own */
	bool goes_on;                /* the page behind the block is on a frame, or will be */
};

/* Pages that are private memory, and lie in no mapping of frames as far as the engine knows. */
static uint64_t plain_pages(const struct rmap_block *b)
{
	uint64_t plain = 0;

	for (uint64_t m = b->tracked & ~b->inlaid; m; m &= m - 1) {
		unsigned int slot = low_bit(m);

		if (rmap_is_private(rmap_state(b, slot)) &&
		    !(rmap_left(b, slot) & (RMAP_LEFT_PINNED | RMAP_LEFT_FORK)))
			plain |= bit64(slot);
	}
	return plain;
}

static bool first_is_ready(const struct mm_slot *mm, uint32_t key) NEEDS(mm->e->lock)
{
	uint32_t bi = block_find(mm, key);

	return bi != NIL && (rmap_block(mm->e, bi)->ready & 1);
}

static void picture_of(struct mm_slot *mm, uint32_t bi, struct picture *p) NEEDS(mm->e->lock)
{
	const struct rmap_block *b = rmap_block(mm->e, bi);
	uint64_t pn = block_pn(b, 0);
	const struct region *r = NULL;

	vma_row(mm, bi, p->frame);
	for (unsigned int i = 0; i <= BLOCK_PAGES; i++) {
		uint64_t addr = (pn + i) << PAGE_SHIFT;

		if (!r || addr >= r->at.end)
			r = region_at(mm, addr);
		p->inner[i] = r && r->at.start < addr;
	}
	p->plain = mm->inlays ? plain_pages(b) : 0;
	p->goes_on = mm->inlays &&
		     (p->frame[BLOCK_PAGES + 1] != FRAME_NONE || first_is_ready(mm, b->key + 1));
}

/* Mappings that putting slots [from, to) on frames from `frame` on adds; may be negative. */
static int cost_of(const struct picture *p, unsigned int from, unsigned int to, uint32_t frame)
{
	int cost = 0;

	for (unsigned int i = from; i <= to; i++)
		if (p->inner[i])
			cost -= (int)vma_differ(p->frame[i], p->frame[i + 1]);
	if (p->inner[from])
		cost += (int)vma_differ(p->frame[from], frame);
	if (p->inner[to])
		cost += (int)vma_differ(frame + to - from - 1, p->frame[to + 1]);
	return cost;
}

/* Where the run of ready pages on adjacent frames that begins at `from` ends. */
static unsigned int run_end(const struct engine *e, const struct rmap_block *b, uint64_t ready,
			    unsigned int from) NEEDS(e->lock)
{
	uint32_t frame = ordered_frame(e, b, from);
	unsigned int to = from + 1;

	while (frame != KSM_FRAME_ZERO && to < BLOCK_PAGES && (ready >> to & 1) &&
	       ordered_frame(e, b, to) == frame + to - from)
		to++;
	return to;
}

/*
 * Where the pages end that are inlaid behind a run of ready pages [from, to): `to`, if none are.
 * Only where another run follows does that save a mapping.
 */
static unsigned int inlay_end(const struct picture *p, uint64_t ready, unsigned int from,
			      unsigned int to)
{
	unsigned int end = to;

	if (mask64(from, to) & ~p->plain)
		return to;
	while (end < BLOCK_PAGES && end - to < INLAY_PAGES && (p->plain & ~ready & bit64(end)))
		end++;
	if (end == BLOCK_PAGES ? p->goes_on :
				 (ready & bit64(end)) || p->frame[end + 1] != FRAME_NONE)
		return end;
	return to;
}

/* Put a run, and what is inlaid behind it up to `end`, into the picture. Returns what it costs. */
static int take_run(const struct engine *e, const struct rmap_block *b, struct picture *p,
		    unsigned int from, unsigned int end) NEEDS(e->lock)
{
	uint32_t frame = ordered_frame(e, b, from);
	int cost;

	if (frame == KSM_FRAME_ZERO)
		return 0;
	cost = cost_of(p, from, end, frame);
	for (unsigned int i = from; i < end; i++)
		p->frame[i + 1] = frame + i - from;
	p->plain &= ~mask64(from, end);
	return cost;
}

/* Ready pages [from, to) on adjacent frames; pages [to, end) are inlaid behind them. */
struct run {
	unsigned int from, to, end;
	int cost; /* mappings that it adds; may be negative */
};

/* Take the first run off the ready pages, and put it into the picture. */
static struct run take_first(const struct engine *e, const struct rmap_block *b, uint64_t *ready,
			     struct picture *p) NEEDS(e->lock)
{
	struct run r = { .from = low_bit(*ready) };

	r.to = run_end(e, b, *ready, r.from);
	r.end = inlay_end(p, *ready, r.from, r.to);
	r.cost = take_run(e, b, p, r.from, r.end);
	*ready &= ~mask64(r.from, r.to);
	return r;
}

/* Is it a page that costs mappings for itself alone? */
static bool is_single(const struct run *r)
{
	return r->cost > 0 && r->to - r->from == 1;
}

/* --- which single pages --- */

/* Rounds in which what was not chosen is looked up again though nothing has changed. */
#define CHOICE_ROUNDS 4u
#define CHOICE_PARTS 256u /* as finely as the bound is set */

/* Mappings that ready pages would add. */
struct need {
	uint64_t first;                /* those that need not be chosen */
	uint64_t single[CHOICE_PARTS]; /* the others, by their hashes */
};

static unsigned int part_of(const struct stable_node *n)
{
	return n->hash % BUDGET_ALL * CHOICE_PARTS / BUDGET_ALL;
}

static void need_of(struct mm_slot *mm, uint32_t bi, struct need *need) NEEDS(mm->e->lock)
{
	const struct rmap_block *b = rmap_block(mm->e, bi);
	uint64_t ready = b->ready;
	struct picture p;

	picture_of(mm, bi, &p);
	while (ready) {
		struct run r = take_first(mm->e, b, &ready, &p);
		const struct stable_node *n;

		if (r.cost <= 0)
			continue;
		n = stable_node(&mm->e->stable, ordered_node(mm->e, b, r.from));
		if (!is_single(&r) || n->nr_items)
			need->first += (uint64_t)r.cost;
		else
			need->single[part_of(n)] += (uint64_t)r.cost;
	}
}

/* Below which hashes there is room; all of the part in which that ends may try. */
static uint32_t bound(const struct need *need, uint64_t room)
{
	uint64_t sum = need->first;

	for (unsigned int i = 0; i < CHOICE_PARTS; i++) {
		sum += need->single[i];
		if (sum > room)
			return (i + 1) * (BUDGET_ALL / CHOICE_PARTS);
	}
	return BUDGET_ALL;
}

/* May this single page have mappings of its own? */
static bool chosen(const struct mm_slot *mm, uint32_t node) NEEDS(mm->e->lock)
{
	const struct stable_node *n = stable_node(&mm->e->stable, node);

	return mm->choice >= BUDGET_ALL || n->nr_items || n->hash % BUDGET_ALL < mm->choice;
}

static void refuse(struct mm_slot *mm, uint32_t bi, unsigned int from, unsigned int to)
	NEEDS(mm->e->lock)
{
	for (; from < to; from++) {
		if (rmap_state(rmap_block(mm->e, bi), from) == RMAP_MERGED) {
			page_move_end(mm->e, bi, from); /* it stays on the frame that it has */
			mm->move_failed = MOVE_NO_MAPPINGS;
			continue;
		}
		page_set(mm->e, bi, from, RMAP_VOLATILE, 0);
		page_left_out(mm->e, bi, from, RMAP_LEFT_VMA);
	}
	mm->refused_level = budget_level(mm);
}

/* If the bound was too low, those that were refused are asked again. */
static void refuse_unchosen(struct mm_slot *mm, uint32_t bi, unsigned int slot) NEEDS(mm->e->lock)
{
	refuse(mm, bi, slot, slot + 1);
	if (mm->choice_rounds < CHOICE_ROUNDS)
		mm->refused_level++;
}

/* Now, so that others do not send orders for frames that they would have alone. */
static void refuse_of(struct mm_slot *mm, uint32_t bi) NEEDS(mm->e->lock)
{
	const struct rmap_block *b = rmap_block(mm->e, bi);
	uint64_t ready = b->ready;
	struct picture p;

	picture_of(mm, bi, &p);
	while (ready) {
		struct picture before = p;
		struct run r = take_first(mm->e, b, &ready, &p);

		if (is_single(&r) && !chosen(mm, ordered_node(mm->e, b, r.from))) {
			refuse_unchosen(mm, bi, r.from);
			p = before;
		}
	}
}

bool budget_no_inlays(struct mm_slot *mm)
{
	bool news = mm->inlays;

	mm->inlays = false;
	mm->inlay_rest = INLAY_REST;
	mm->choice_ready = 0;
	return news;
}

void budget_choose(struct mm_slot *mm)
{
	uint64_t limit = budget_limit(mm) - budget_limit(mm) / 32, used = budget_used(mm);
	struct need need = { 0 };
	uint32_t next;

	if (!mm->inlay_rest && used + 2 * mm->nr_ready > limit)
		mm->inlays = true;
	if (used + 2 * mm->nr_ready <= limit) {
		mm->choice = BUDGET_ALL;
		mm->choice_ready = 0;
		return;
	}
	/* Those that were sent or refused meanwhile do not change what there is room for. */
	if (mm->choice_ready && mm->nr_ready <= mm->choice_ready + mm->choice_ready / 8)
		return;
	mm->choice_ready = mm->nr_ready;
	for (int list = READY_NEW; list <= READY_OLD; list++)
		for (uint32_t bi = mm->blocks[list].first; bi != NIL;
		     bi = rmap_block(mm->e, bi)->link[LINK_READY].next)
			need_of(mm, bi, &need);
	mm->choice = bound(&need, limit > used ? limit - used : 0);
	for (int list = READY_NEW; list <= READY_OLD && mm->choice < BUDGET_ALL; list++)
		for (uint32_t bi = mm->blocks[list].first; bi != NIL; bi = next) {
			next = rmap_block(mm->e, bi)->link[LINK_READY].next;
			refuse_of(mm, bi);
		}
}

/* --- what fits --- */

/* Run by run, from left to right, each counted against what the runs before leave. */
uint64_t budget_fit(struct mm_slot *mm, uint32_t bi, uint64_t ready, uint32_t *reserved,
		    uint64_t *inlay)
{
	const struct rmap_block *b = rmap_block(mm->e, bi);
	uint64_t take = 0;
	struct picture p;
	int sum = 0;

	picture_of(mm, bi, &p);
	*reserved = 0;
	*inlay = 0;
	while (ready) {
		struct picture before = p;
		struct run r = take_first(mm->e, b, &ready, &p);

		if (r.cost > 0 && (r.to - r.from < min_run(budget_level(mm)) ||
				   budget_used(mm) + (uint64_t)r.cost > budget_limit(mm))) {
			refuse(mm, bi, r.from, r.to);
			p = before;
			continue;
		}
		if (is_single(&r) && !chosen(mm, ordered_node(mm->e, b, r.from))) {
			refuse_unchosen(mm, bi, r.from);
			p = before;
			continue;
		}
		take |= mask64(r.from, r.to);
		if (r.end > r.to)
			*inlay |= mask64(r.to, r.end);
		/* What it adds is held back until the outcome, what it saves is not. */
		sum += r.cost;
		if (sum > (int)*reserved) {
			mm->vmas_reserved += (uint32_t)sum - *reserved;
			*reserved = (uint32_t)sum;
		}
	}
	return take;
}

/*
 * Refusing here, where the partners are at hand, spares frames that would serve one page: they cost
 * a copy, an order and mappings, and save nothing.
 */
bool budget_refuse(struct mm_slot *mm, uint32_t bi)
{
	uint64_t ready = rmap_block(mm->e, bi)->ready;
	uint64_t inlay;
	uint32_t reserved;

	if (!budget_level(mm) || budget_may_wait(mm) || !ready)
		return false;
	budget_fit(mm, bi, ready, &reserved, &inlay);
	mm->vmas_reserved -= reserved; /* the order reserves again */
	return true;
}

/*
 * Mappings have become less scarce than when pages were refused: hash these again. After a pass a
 * client gets all of its budget except a last share for what may come (engine_flush()), at the
 * latest when it has come to rest: what is longer than single pages has been merged by then.
 */
void budget_requeue(struct mm_slot *mm)
{
	uint64_t limit = budget_limit(mm), used = budget_used(mm);
	uint64_t room = limit > used ? limit - used : 0;

	mm->choice_ready = 0;
	mm->inlay_rest -= mm->inlay_rest > 0;
	if (!mm->left[KSM_LEFT_VMA_BUDGET]) {
		mm->choice_rounds = 0;
		mm->vmas_released = mm->flush_owed == ENGINE_FLUSH_PASS;
		return;
	}
	if (!mm->nr_ready && !mm->nr_orders)
		mm->vmas_released = true;
	/* There may be as much as ever, and more than there was. */
	if (budget_level(mm) >= mm->refused_level && room <= mm->choice_room + limit / 32) {
		mm->choice_room = u64_min(mm->choice_room, room);
		return;
	}
	mm->choice_room = room;
	mm->choice_rounds++;
	for (uint32_t i = 0; i < mm->table.cap; i++) {
		uint32_t bi = mm->table.entry[i].block;

		for (unsigned int slot = 0; bi != NIL && slot < BLOCK_PAGES; slot++)
			if (rmap_block(mm->e, bi)->state[slot] & RMAP_LEFT_VMA)
				page_pend(mm->e, bi, slot, false);
	}
	mm->refused_level = budget_level(mm);
}
