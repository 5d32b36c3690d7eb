/* SPDX-License-Identifier: MIT */
/*
 * due.c - is compaction due that nobody has asked for?
 *
 * It is cheap to ask, because the daemon asks after every pass, or every batch. Nothing is begun
 * here, and an answer that is out of date when the daemon acts on it costs a run in vain.
 */
#include "engine/gather.h"
#include "engine/settle.h"
#include "pool/index.h"

#define GATHER_LEAST 64u /* mappings: fewer are not worth a walk over all clients */
#define GATHER_PART 16u  /* and these are to have so many pages, at most */

/*
 * Are most of the zone's numbers in pageblocks, and most of those that are free in none that a
 * window can have? The first is cheap to know, and hardly ever so.
 */
static bool is_fragmented(struct engine *e, int nid) NEEDS(e->lock)
{
	uint32_t eager = knob_get(e->knobs, KNOB_COMPACTION_PROACTIVENESS), least = 100 - eager;
	uint64_t runs[POOL_ORDERS], percent;
	struct pool_counts c;

	pool_counts(&e->pool, nid, &c);
	percent = (c.span - c.absent) * 100 / c.span;
	if (!eager || percent < least)
		return false;
	index_runs(&e->pool, nid, POOL_TYPES, runs);
	return percent * (uint64_t)index_unusable(runs, PAGEBLOCK_ORDER) / 1000 >= least;
}

enum engine_want engine_wants_compaction(struct engine *e, int nid)
{
	enum engine_want wants = WANT_NOTHING;

	engine_lock(e);
	if (e->wants_pageblock & bit64((unsigned int)nid))
		wants = WANT_DIRECT;
	else if (is_fragmented(e, nid))
		wants = WANT_BACKGROUND;
	engine_unlock(e);
	return wants;
}

/* Have mappings or merged pages become more or fewer by an eighth since they were gathered last? */
static bool has_changed(uint64_t now, uint64_t then)
{
	uint64_t by = now > then ? now - then : then - now;

	return by > GATHER_LEAST && by > then / 8;
}

bool engine_wants_gathering(struct engine *e, int nid)
{
	const struct gather_last *last = &e->gathered[nid];
	struct gather_score s;
	bool wants;

	if (!knob_get(e->knobs, KNOB_COMPACTION_PROACTIVENESS))
		return false;

	engine_lock(e);
	s = gather_score(e);
	wants = !engine_rests(e) && s.vmas >= GATHER_LEAST && s.vmas * GATHER_PART >= s.merged &&
		(has_changed(s.vmas, last->vmas) || has_changed(s.merged, last->merged));
	engine_unlock(e);
	return wants;
}

bool engine_wants_pageblock(struct engine *e)
{
	bool wants;

	engine_lock(e);
	wants = e->wants_pageblock;
	engine_unlock(e);
	return wants;
}
