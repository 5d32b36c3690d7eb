/* SPDX-License-Identifier: MIT */
/*
 * tick.c - time passes: pages that waited long enough are to be merged.
 *
 * The engine has no clock. The daemon tells it the time before it scans, and with it random bits
 * for the waits that begin until the next tick. settle.c does what follows for each crowd, so a
 * tick deals with a bounded number of them and lets the lock go. The same with what another
 * merge_policy sorts anew.
 */
#include "engine/across.h"
#include "engine/allow.h"
#include "engine/crowd.h"
#include "engine/settle.h"

#define TICK_CROWDS 4096u /* half a millisecond */

/* A knob was changed, or merging was halted: crowds may be ready that nothing else will touch. */
static bool begin_sweep(struct engine *e) NEEDS(e->lock)
{
	struct crowds *all = &e->crowds;
	uint32_t sharers = knob_get(e->knobs, KNOB_MIN_SHARERS);
	uint32_t delay = knob_get(e->knobs, KNOB_MERGE_DELAY_MILLISECS);

	if (sharers == all->sharers && delay == all->delay && !all->halted)
		return false;
	all->sharers = sharers;
	all->delay = delay;
	all->halted = false;
	return true;
}

static void sweep(struct engine *e, uint32_t nr) NEEDS(e->lock)
{
	struct crowds *all = &e->crowds;

	while (nr-- && all->sweep < all->slab.nr_chunks * SLAB_CHUNK) {
		if (slab_is_used(&all->slab, all->sweep))
			crowd_touch(e, all->sweep);
		all->sweep++;
	}
	if (all->sweep >= all->slab.nr_chunks * SLAB_CHUNK)
		all->sweep = UINT32_MAX;
}

bool engine_tick(struct engine *e, uint64_t now_ms, uint64_t salt)
{
	uint32_t nr = 0;
	bool more;

	engine_lock(e);
	allow_debt_again(e);
	e->crowds.now = now_ms;
	e->crowds.salt = salt;
	if (knob_get(e->knobs, KNOB_RUN) == KSM_RUN_MERGE && !engine_rests(e) && begin_sweep(e))
		e->crowds.sweep = 0;
	sweep(e, TICK_CROWDS);
	while (nr < TICK_CROWDS && crowd_next_due(e) != NIL)
		nr++;
	more = nr == TICK_CROWDS || e->crowds.sweep != UINT32_MAX;
	across_take(e);
	more |= across_step(e);
	engine_unlock(e);
	return more;
}
