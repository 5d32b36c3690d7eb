/* SPDX-License-Identifier: MIT */
/*
 * budget.c - which pages may cost their client a mapping.
 *
 * A page whose frame continues neither neighbour's costs up to two mappings, of which a process may
 * have vm.max_map_count. What an order would add is counted exactly (vma.c counts what is there), run
 * by run, before it is sent, and held back until its outcome is known: so a client never runs out of
 * mappings because of us. Pages that do not fit are refused, and looked up again when there is room.
 */
#include "engine/budget.h"
#include "engine/core.h"
#include "engine/merge.h"
#include "engine/mm.h"
#include "engine/page.h"
#include "engine/vma.h"

uint64_t budget_limit(const struct mm_slot *mm)
{
	return (uint64_t)mm->max_map_count * knob_get(mm->e->knobs, KNOB_VMA_BUDGET_PERCENT) / 100;
}

/* All mappings of the process, those that orders under way may add included. */
uint64_t budget_used(const struct mm_slot *mm)
{
	return mm->vmas_own + mm->vmas_ours + mm->vmas_reserved;
}

/*
 * How scarce mappings are, 0 (plenty) to 4 (none left). The steps leave the longer runs a share
 * of what is left each time: half of the budget is for everybody, the last eighth for runs of 16.
 * When a pass is over they are not needed any more; a thirty-second is kept for long runs that may
 * come later.
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

/*
 * May pages that need a mapping each wait until the pass is over? Then nothing longer can be found, and they get what
 * is left. If there is not enough for all that wait, frames are made for some of them in vain; so a little more
 * may wait than there is room for, not much more.
 */
bool budget_may_wait(const struct mm_slot *mm)
{
	return budget_used(mm) + mm->nr_ready < budget_limit(mm) + budget_limit(mm) / 8;
}

static uint32_t min_run(int level)
{
	static const uint32_t min_run[] = { 1, 2, 4, 16, UINT32_MAX };

	return min_run[level];
}

/* A block as an order would leave it, for counting mappings. Index 0 is the page before slot 0. */
struct layout {
	uint32_t frame[BLOCK_PAGES + 2];
	bool inner[BLOCK_PAGES + 1]; /* boundary before slot i is inside a region */
};

static void layout_of(struct mm_slot *mm, uint32_t bi, struct layout *l)
{
	struct engine *e = mm->e;
	const struct rmap_block *b = rmap_block(e, bi);
	uint64_t pn = block_pn(b, 0);
	const struct region *r;
	unsigned int i;
	uint64_t addr;

	l->frame[0] = pn ? vma_frame_at(mm, pn - 1) : FRAME_NONE;
	for (i = 0; i < BLOCK_PAGES; i++)
		l->frame[i + 1] = vma_frame(e, b, i);
	l->frame[BLOCK_PAGES + 1] = vma_frame_at(mm, pn + BLOCK_PAGES);
	for (i = 0, r = NULL; i <= BLOCK_PAGES; i++) {
		addr = (pn + i) << PAGE_SHIFT;
		if (!r || addr >= r->end)
			r = region_at(mm, addr);
		l->inner[i] = r && r->start < addr;
	}
}

/* Mappings that putting slots [from, to) on frames from `frame` on adds; may be negative. */
static int layout_cost(const struct layout *l, unsigned int from, unsigned int to, uint32_t frame)
{
	int cost = 0;
	unsigned int i;

	for (i = from; i <= to; i++)
		if (l->inner[i])
			cost -= (int)vma_differ(l->frame[i], l->frame[i + 1]);
	if (l->inner[from])
		cost += (int)vma_differ(l->frame[from], frame);
	if (l->inner[to])
		cost += (int)vma_differ(frame + to - from - 1, l->frame[to + 1]);
	return cost;
}

static void refuse(struct mm_slot *mm, uint32_t bi, unsigned int from, unsigned int to)
{
	for (; from < to; from++) {
		page_set(mm->e, bi, from, RMAP_VOLATILE, 0);
		page_left_out(mm->e, bi, from, RMAP_LEFT_VMA);
	}
	mm->refused_level = budget_level(mm);
}

/*
 * Which of these ready pages fit into the client's budget of mappings; the others are refused.
 * Run by run, from left to right, each counted against what the ones before leave. Returns the
 * pages that fit; mm->vmas_reserved has grown by *reserved.
 */
uint64_t budget_fit(struct mm_slot *mm, uint32_t bi, uint64_t left, uint32_t *reserved)
{
	struct engine *e = mm->e;
	struct rmap_block *b = rmap_block(e, bi);
	uint64_t take = 0;
	struct layout l;
	int sum = 0;

	layout_of(mm, bi, &l);
	*reserved = 0;
	while (left) {
		unsigned int from = (unsigned int)__builtin_ctzll(left), to = from + 1, i;
		uint32_t frame = order_frame(e, b, from);
		int cost = 0;

		if (frame != KSM_FRAME_ZERO) {
			while (to < BLOCK_PAGES && (left >> to & 1) &&
			       order_frame(e, b, to) == frame + to - from)
				to++;
			cost = layout_cost(&l, from, to, frame);
		}
		left &= ~mask64(from, to);
		if (cost > 0 && (to - from < min_run(budget_level(mm)) ||
				 budget_used(mm) + (uint64_t)cost > budget_limit(mm))) {
			refuse(mm, bi, from, to);
			continue;
		}
		for (i = from; i < to && frame != KSM_FRAME_ZERO; i++)
			l.frame[i + 1] = frame + i - from;
		take |= mask64(from, to);
		/* What it adds is held back until the outcome, what it saves is not. */
		sum += cost;
		if (sum > (int)*reserved) {
			mm->vmas_reserved += (uint32_t)sum - *reserved;
			*reserved = (uint32_t)sum;
		}
	}
	return take;
}

/* A new frame whose pages were refused, but perhaps for one. Returns true if it is gone. */
static bool give_up(struct engine *e, uint32_t node, uint32_t partner)
{
	struct stable_node *n = stable_node(&e->stable, node);
	const struct rmap_block *b = rmap_block(e, partner / BLOCK_PAGES);
	unsigned int slot = partner % BLOCK_PAGES;

	if (!n->nr_ordered) {
		n->filling = STABLE_NEVER_FILLED;
		stable_touch(&e->stable, node);
		return true;
	}
	/* If the one is not the partner it is found to be alone when its order is due. */
	if (n->nr_ordered > 1 || rmap_state(b, slot) != RMAP_ORDERED ||
	    b->item[slot].s.node != node)
		return false;
	n->filling = STABLE_NEVER_FILLED; /* so that it goes with its last page */
	merge_unbind_lonely(e, partner / BLOCK_PAGES, slot);
	return true;
}

/*
 * Refusing here, where the partners are at hand, spares frames that would serve one page: they cost
 * a copy, an order and mappings, and save nothing.
 */
void budget_refuse_early(struct scan_worker *w, struct engine *e, uint32_t bi)
{
	struct mm_slot *mm = block_mm(rmap_block(e, bi));
	struct fill *f = &w->fill;
	uint32_t i, kept, reserved;

	if (!budget_level(mm) || budget_may_wait(mm) || !rmap_block(e, bi)->ready)
		return;
	budget_fit(mm, bi, rmap_block(e, bi)->ready, &reserved);
	mm->vmas_reserved -= reserved; /* the order reserves again */
	for (i = kept = 0; i < f->nr; i++) {
		if (give_up(e, f->node[i], f->partner[i]))
			continue;
		f->node[kept] = f->node[i];
		f->frame[kept] = f->frame[i];
		f->partner[kept] = f->partner[i];
		f->page[kept++] = f->page[i];
	}
	f->nr = kept;
}

/*
 * Mappings have become less scarce than when pages were refused: hash these again. After a pass a client gets
 * all of its budget but a last share for what may come (engine_flush()), at the latest when it has come
 * to rest: what is longer than single pages has been merged by then.
 */
void budget_requeue(struct mm_slot *mm)
{
	struct engine *e = mm->e;
	uint32_t i, bi;
	unsigned int slot;

	if (!mm->left[KSM_LEFT_VMA_BUDGET]) {
		mm->vmas_released = mm->flush_owed == ENGINE_FLUSH_PASS;
		return;
	}
	if (!mm->nr_ready && !mm->nr_orders)
		mm->vmas_released = true;
	if (budget_level(mm) >= mm->refused_level)
		return;
	for (i = 0; i < mm->table.cap; i++) {
		bi = mm->table.slot[i].block;
		for (slot = 0; bi != NIL && slot < BLOCK_PAGES; slot++)
			if (rmap_block(e, bi)->state[slot] & RMAP_LEFT_VMA)
				page_pend(e, bi, slot, false);
	}
	mm->refused_level = budget_level(mm);
}
