/* SPDX-License-Identifier: MIT */
/*
 * allow.c - frames are allowed by the daemon before the pool hands them out.
 *
 * Many engines share one machine's memory, and their users have shares of it, of which an engine
 * knows nothing. So it asks, a block's worth at a time, and tells when it needs fewer. Asking for
 * each frame would take a lock that all engines share each time; this way it costs nothing that
 * can be measured, and an engine holds at most two blocks (512 KiB) more than it uses.
 *
 * Retired frames hold memory until every process that may map them has moved on, and one that is
 * stopped, or lies, never does. Merging would go on and retire more without end. So an engine that
 * has many of them makes no new frames.
 *
 * What is merged is promised more than once: if everything were written, each page would need
 * memory of its own. The daemon knows how much of that fits, so it is asked for these, too. An
 * engine at its limit reads nothing more, since no page could be merged whatever it holds; a tick
 * asks whether there is room again.
 */
#include "engine/allow.h"
#include "engine/stable.h"

#define STEP BLOCK_PAGES
#define MEMORY_STEP (64u << 10) /* bytes; 37 blocks */

static uint64_t debt(const struct engine *e) NEEDS(e->lock);
static uint64_t debt(const struct engine *e)
{
	return e->nr_state[RMAP_MERGED] + e->nr_state[RMAP_ZEROED] + e->nr_state[RMAP_ORDERED];
}

static bool debt_fits(struct engine *e, uint64_t more, bool probe) NEEDS(e->lock);
static bool debt_fits(struct engine *e, uint64_t more, bool probe)
{
	uint64_t now = debt(e), least = probe ? now : now + more;

	if (now + more > e->debt_allowed)
		e->debt_allowed = e->ops->debt_allow(e->arena, now, least, now + STEP);
	return now + more <= e->debt_allowed;
}

bool allow_debt(struct engine *e, uint64_t more)
{
	if (debt_fits(e, more, false))
		return true;
	__atomic_store_n(&e->indebted, true, __ATOMIC_RELAXED);
	return false;
}

void allow_debt_again(struct engine *e)
{
	/* Room for a pair at least. Forks and moves have not asked, and are to be told of. */
	if ((e->indebted || debt(e) > e->debt_allowed) && debt_fits(e, 2, true))
		__atomic_store_n(&e->indebted, false, __ATOMIC_RELAXED);
}

static void allow_debt_less(struct engine *e) NEEDS(e->lock)
{
	uint64_t now = debt(e), keep = now ? now + STEP : 0;

	if (now ? e->debt_allowed > now + 2 * STEP : e->debt_allowed)
		e->debt_allowed = e->ops->debt_allow(e->arena, now, now, keep);
}

/* What is held in a huge page has memory, too (folio.c). */
static uint32_t in_memory(const struct engine *e) NEEDS(e->lock);
static uint32_t in_memory(const struct engine *e)
{
	return e->pool.nr_used + e->pool.nr_held;
}

bool allow_frame(struct engine *e)
{
	uint32_t used = in_memory(e);

	if (e->stable.nr_retired >= knob_get(e->knobs, KNOB_MAX_RETIRED_FRAMES)) {
		e->total.frames_held_up++;
		return false;
	}
	if (used < e->allowed)
		return true;
	e->allowed = e->ops->frames_allow(e->arena, used + 1, used + STEP);
	return used < e->allowed;
}

void allow_less(struct engine *e)
{
	uint32_t used = in_memory(e), keep = used ? used + STEP : 0;

	allow_debt_less(e);
	/* Frames may be held that were not allowed: then there is nothing to give up. */
	if (used ? e->allowed <= used + 2 * STEP : !e->allowed)
		return;
	e->allowed = e->ops->frames_allow(e->arena, keep, keep);
}

static uint64_t memory_used(const struct mm_slot *mm)
{
	return mm->table.nr * sizeof(struct rmap_block) +
	       mm->regions->nr * (sizeof(struct region) + sizeof(struct region *));
}

bool allow_memory(struct mm_slot *mm, uint64_t more)
{
	uint64_t least = memory_used(mm) + more;

	if (least > mm->allowed)
		mm->allowed = mm->e->ops->memory_allow(mm->client, least, least + MEMORY_STEP);
	return least <= mm->allowed;
}

void allow_memory_less(struct mm_slot *mm)
{
	uint64_t used = memory_used(mm), keep = used ? used + MEMORY_STEP : 0;

	if (mm->allowed > keep + (used ? MEMORY_STEP : 0))
		mm->allowed = mm->e->ops->memory_allow(mm->client, keep, keep);
}
