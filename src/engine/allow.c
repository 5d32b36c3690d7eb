/* SPDX-License-Identifier: MIT */
/*
 * allow.c - frames are allowed by the daemon before the pool hands them out.
 *
 * Many engines share one machine's memory, and their users have shares of it, of which an engine
 * knows nothing. So it asks, a block's worth at a time, and tells when it needs fewer. Asking for
 * each frame would take a lock that all engines share each time; this way it costs nothing that
 * can be measured, and an engine holds at most two blocks (512 KiB) more than it uses.
 */
#include "engine/allow.h"

#define STEP BLOCK_PAGES

bool allow_frame(struct engine *e)
{
	uint32_t used = e->pool.nr_used;

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
