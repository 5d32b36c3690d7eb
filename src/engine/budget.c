/* SPDX-License-Identifier: MIT */
/*
 * budget.c - which pages may cost their client a mapping.
 *
 * A page whose frame continues neither neighbour's costs up to two mappings, of which a process may
 * have vm.max_map_count. The engine counts what an order would add exactly (vma.c counts what is
 * there), run by run, before it sends the order, and holds that back until the outcome is known: so
 * a client never runs out of mappings because of merging. Pages that do not fit are refused, and
 * looked up again when there is room.
 */
#include "engine/budget.h"
#include "engine/mm.h"
#include "engine/page.h"
#include "engine/vma.h"

/* --- how much there is --- */

uint64_t budget_limit(const struct mm_slot *mm)
{
	return (uint64_t)mm->max_map_count * knob_get(mm->e->knobs, KNOB_VMA_BUDGET_PERCENT) / 100;
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

/* A block as an order would leave it, for counting mappings. Index 0 is the page before slot 0. */
struct picture {
	uint32_t frame[BLOCK_PAGES + 2];
	bool inner[BLOCK_PAGES + 1]; /* boundary before slot i is inside a region */
};

static void picture_of(struct mm_slot *mm, uint32_t bi, struct picture *p) NEEDS(mm->e->lock)
{
	const struct rmap_block *b = rmap_block(mm->e, bi);
	uint64_t pn = block_pn(b, 0);
	const struct region *r = NULL;

	p->frame[0] = pn ? vma_frame_at(mm, pn - 1) : FRAME_NONE;
	for (unsigned int i = 0; i < BLOCK_PAGES; i++)
		p->frame[i + 1] = vma_frame(mm->e, b, i);
	p->frame[BLOCK_PAGES + 1] = vma_frame_at(mm, pn + BLOCK_PAGES);
	for (unsigned int i = 0; i <= BLOCK_PAGES; i++) {
		uint64_t addr = (pn + i) << PAGE_SHIFT;

		if (!r || addr >= r->at.end)
			r = region_at(mm, addr);
		p->inner[i] = r && r->at.start < addr;
	}
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

/* --- what fits --- */

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

/* Run by run, from left to right, each counted against what the runs before leave. */
uint64_t budget_fit(struct mm_slot *mm, uint32_t bi, uint64_t ready, uint32_t *reserved)
{
	const struct rmap_block *b = rmap_block(mm->e, bi);
	uint64_t take = 0;
	struct picture p;
	int sum = 0;

	picture_of(mm, bi, &p);
	*reserved = 0;
	while (ready) {
		unsigned int from = low_bit(ready), to = from + 1;
		uint32_t frame = ordered_frame(mm->e, b, from);
		int cost = 0;

		if (frame != KSM_FRAME_ZERO) {
			while (to < BLOCK_PAGES && (ready >> to & 1) &&
			       ordered_frame(mm->e, b, to) == frame + to - from)
				to++;
			cost = cost_of(&p, from, to, frame);
		}
		ready &= ~mask64(from, to);
		if (cost > 0 && (to - from < min_run(budget_level(mm)) ||
				 budget_used(mm) + (uint64_t)cost > budget_limit(mm))) {
			refuse(mm, bi, from, to);
			continue;
		}
		for (unsigned int i = from; i < to && frame != KSM_FRAME_ZERO; i++)
			p.frame[i + 1] = frame + i - from;
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

/*
 * Refusing here, where the partners are at hand, spares frames that would serve one page: they cost
 * a copy, an order and mappings, and save nothing.
 */
bool budget_refuse(struct mm_slot *mm, uint32_t bi)
{
	uint64_t ready = rmap_block(mm->e, bi)->ready;
	uint32_t reserved;

	if (!budget_level(mm) || budget_may_wait(mm) || !ready)
		return false;
	budget_fit(mm, bi, ready, &reserved);
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
	if (!mm->left[KSM_LEFT_VMA_BUDGET]) {
		mm->vmas_released = mm->flush_owed == ENGINE_FLUSH_PASS;
		return;
	}
	if (!mm->nr_ready && !mm->nr_orders)
		mm->vmas_released = true;
	if (budget_level(mm) >= mm->refused_level)
		return;
	for (uint32_t i = 0; i < mm->table.cap; i++) {
		uint32_t bi = mm->table.entry[i].block;

		for (unsigned int slot = 0; bi != NIL && slot < BLOCK_PAGES; slot++)
			if (rmap_block(mm->e, bi)->state[slot] & RMAP_LEFT_VMA)
				page_pend(mm->e, bi, slot, false);
	}
	mm->refused_level = budget_level(mm);
}
