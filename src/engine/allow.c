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
 */
#include "engine/allow.h"
#include "engine/stable.h"

#define STEP BLOCK_PAGES
#define MEMORY_STEP (64u << 10) /* bytes; 37 blocks */

bool allow_frame(struct engine *e)
{
	uint32_t used = e->pool.nr_used;

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
	uint32_t used = e->pool.nr_used, keep = used ? used + STEP : 0;

	if (used ? e->allowed - used <= 2 * STEP : !e->allowed)
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
