/* SPDX-License-Identifier: MIT */
/*
 * drain.c - a range of frames is emptied while clients run, and taken out of use, or claimed.
 *
 * The range is isolated first (pool/range.h): what becomes free in it stays free, so it fills no
 * faster than it empties. Windows in it are windows no more. The mover then takes what stands there
 * elsewhere (migrate.c), and goes through the range again as long as something is left, since a
 * page may have been on its way to a frame when the mover came by. A frame that has lost its pages
 * is retired until its grace period is over. When all are free the pageblocks are taken out.
 *
 * Safe because nothing here frees or moves a frame: the mover does, with all that it keeps, and the
 * grace period does. Taking out needs that every frame is free, and looks again under the zone's
 * lock. Who is late therefore costs time and nothing else.
 *
 * A range that somebody wants for himself is emptied in the same way, and then claimed
 * (pool/claim.h), of which the rest of its pageblocks is in use again. It may begin and end
 * anywhere. If he names no place but a size, the next place is tried when one cannot be emptied.
 *
 * It ends: rounds of the mover end by themselves, they come ever less often, and when no frame has
 * left for DRAIN_MS, or for 1 ms for each frame in use at the start if that is more, everything is
 * undone: the pageblocks are in use again with their types. What was moved stays moved. Who kept
 * the first frame that is left is named. A machine that is slow is no reason to undo what goes on;
 * but whoever lets one frame go at a time gains no more than LAST_TIMES as long.
 */
#include "engine/drain.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/layout.h"
#include "engine/migrate.h"
#include "engine/settle.h"
#include "pool/claim.h"
#include "pool/range.h"

#define DRAIN_MS 15000u    /* a grace period, and clients that are slow */
#define LAST_TIMES 8u      /* two cores under a load of 40 need four times as long */
#define ROUND_MS 50u       /* after a round of the mover the next begins; then twice that ... */
#define ROUND_MAX_MS 1000u /* ... at most */
#define VISIT 8192u        /* frame numbers looked at under one hold of the lock */

struct drain {
	struct source of; /* with the frame before it, if the first is or becomes its guard */
	uint32_t first, end;
	bool isolated;
	bool claim;                    /* it is not taken out of use, but claimed */
	struct claim_search search;    /* nr 0: it is to be this very range */
	unsigned int places;           /* that have been tried */
	uint64_t limit_ms;             /* if no frame leaves until then; 0: not known yet */
	uint64_t last_ms;              /* and in any case */
	uint64_t round_ms, backoff_ms; /* when the mover begins again */
	uint64_t frames;               /* in use at the start */
	uint32_t next;                 /* all before it are free */
	bool moving;                   /* the mover has the range */
	bool cancelled;
	struct engine_culprit culprit; /* the last that the mover named in this range */
};

void drain_free(struct engine *e)
{
	for (int nid = 0; nid < ENGINE_NODES; nid++)
		free(e->drain[nid]);
}

/* Windows end that have a frame in it: pages that have none yet begin others elsewhere. */
static void leave_windows(struct engine *e, const struct drain *d) NEEDS(e->lock)
{
	uint32_t zone = (uint32_t)d->of.from * e->pool.zone_frames;
	uint32_t lo = (d->first - zone) / PAGEBLOCK_FRAMES * PAGEBLOCK_FRAMES;
	uint32_t hi = (d->end - zone + PAGEBLOCK_FRAMES - 1) / PAGEBLOCK_FRAMES * PAGEBLOCK_FRAMES;

	layout_leave(e, zone + lo, zone + (hi < e->pool.zone_frames ? hi : e->pool.zone_frames));
}

/*
 * A guard belongs to the frame before it, and comes and goes with that. So does this frame, when it
 * is given back.
 */
static bool is_to_guard(struct engine *e, uint32_t frame) NEEDS(e->lock)
{
	const struct pageblock *pb = pool_pageblock(&e->pool, frame);
	uint32_t off = frame % e->pool.zone_frames % PAGEBLOCK_FRAMES;

	return e->pool.guard && pb && off && pageblock_needs_guard(pb, off - 1);
}

/* Isolate this range for it. On failure nothing has changed. */
static int isolate(struct engine *e, struct drain *d, uint32_t first, uint32_t end,
		   struct pool_culprit *who) NEEDS(e->lock)
{
	int err = range_isolate_windows(&e->pool, first, end, who);

	if (err)
		return err;
	d->isolated = true;
	d->first = first;
	d->end = end;
	leave_windows(e, d);
	d->of.first = first - is_to_guard(e, first);
	d->of.end = end;
	d->next = d->of.first;
	d->backoff_ms = ROUND_MS;
	d->round_ms = 0;
	return 0;
}

/* The first place that can be isolated, behind those that were tried. */
static int isolate_any(struct engine *e, struct drain *d, struct pool_culprit *who) NEEDS(e->lock)
{
	int err = -EBUSY;

	*who = (struct pool_culprit){ .frame = POOL_NONE, .why = "no place is left" };
	while (err == -EBUSY && d->places++ < RANGE_ATTEMPTS) {
		uint32_t first = claim_place(&e->pool, d->of.from, &d->search);

		if (first == POOL_NONE)
			break;
		err = isolate(e, d, first, first + d->search.nr, who);
	}
	return err;
}

/* *r is what it begins with; the caller keeps it. */
static int begin(struct engine *e, const struct drain *r, struct pool_culprit *who) NEEDS(e->lock)
{
	int nid = r->of.from, err;
	struct pool_counts c;
	struct drain *d;

	*who = (struct pool_culprit){ .frame = POOL_NONE };
	if (!node_is_free(e, nid))
		return -EALREADY;
	d = malloc(sizeof(*d));
	if (!d)
		return -ENOMEM;
	*d = *r;
	err = d->search.nr ? isolate_any(e, d, who) : isolate(e, d, r->first, r->end, who);
	if (err) {
		free(d);
		return err;
	}
	pool_counts(&e->pool, nid, &c);
	d->frames = c.used + c.retired;
	e->drain[nid] = d;
	count_bytes(e, sizeof(*d));
	return 0;
}

/* Whole pageblocks of the node's zone? */
static bool is_range(const struct engine *e, int nid, uint32_t first, uint32_t end)
{
	uint32_t zone = e->pool.zone_frames, start, size;

	if (nid < 0 || nid >= e->nr_nodes)
		return false;
	start = (uint32_t)nid * zone;
	size = end - start;
	return first >= start && first < end && size <= zone &&
	       (first - start) % PAGEBLOCK_FRAMES == 0 &&
	       (size % PAGEBLOCK_FRAMES == 0 || size == zone);
}

int engine_offline(struct engine *e, int nid, uint32_t first, uint32_t end, int to, uint32_t *frame)
{
	const struct drain r = { .of = { .from = nid, .to = to }, .first = first, .end = end };
	struct pool_culprit who;
	int err;

	*frame = POOL_NONE;
	if (!is_range(e, nid, first, end) || to < 0 || to >= e->nr_nodes)
		return -EINVAL;
	if (to == nid && end - first == e->pool.zone_frames)
		return -EINVAL;
	engine_lock(e);
	err = begin(e, &r, &who);
	engine_unlock(e);
	*frame = who.frame;
	return err;
}

/* Frames of the node's zone, whole pageblocks or not? */
static bool has_frames(const struct engine *e, int nid, uint32_t first, uint32_t end)
{
	uint64_t zone = e->pool.zone_frames;

	return nid >= 0 && nid < e->nr_nodes && first < end && first >= (uint64_t)nid * zone &&
	       end <= ((uint64_t)nid + 1) * zone;
}

int engine_claim(struct engine *e, int nid, const struct engine_claim *c,
		 struct engine_drained *out)
{
	const struct drain r = { .of = { .from = nid, .to = nid },
				 .first = c->first,
				 .end = c->end,
				 .claim = true,
				 .search = { .nr = c->nr, .align = c->align } };
	struct pool_culprit who;
	int err;

	if (c->nr ? !has_frames(e, nid, (uint32_t)nid * e->pool.zone_frames,
				(uint32_t)nid * e->pool.zone_frames + c->nr) ||
			    !c->align || c->align & (c->align - 1) :
		    !has_frames(e, nid, c->first, c->end))
		return -EINVAL;
	engine_lock(e);
	err = begin(e, &r, &who);
	engine_unlock(e);
	out->culprit.frame = who.frame;
	out->why = who.why;
	return err;
}

int engine_unclaim(struct engine *e, int nid, uint32_t first, uint32_t end)
{
	struct pool_culprit who;
	int err;

	if (!has_frames(e, nid, first, end))
		return -EINVAL;
	engine_lock(e);
	err = claim_give(&e->pool, first, end, &who);
	engine_unlock(e);
	return err;
}

uint32_t engine_next_claimed(struct engine *e, int nid, uint32_t f, uint32_t *nr)
{
	uint32_t zone = (uint32_t)nid * e->pool.zone_frames;

	if (f < zone)
		f = zone;
	*nr = 0;
	if (f >= zone + e->pool.zone_frames)
		return POOL_NONE;
	return claim_next(&e->pool, f, zone + e->pool.zone_frames, nr);
}

int engine_online(struct engine *e, int nid, uint32_t first, uint32_t end)
{
	int err;

	if (!is_range(e, nid, first, end))
		return -EINVAL;
	engine_lock(e);
	err = range_online(&e->pool, first, end);
	engine_unlock(e);
	return err;
}

void engine_drain_end(struct engine *e, int nid)
{
	engine_lock(e);
	if (e->drain[nid])
		e->drain[nid]->cancelled = true;
	engine_unlock(e);
	engine_migrate_end(e, nid);
}

/* --- a step --- */

static uint64_t patience(const struct drain *d)
{
	return d->frames > DRAIN_MS ? d->frames : DRAIN_MS;
}

/* A frame has left. */
static void note_progress(struct drain *d, uint64_t now)
{
	uint64_t limit = now + patience(d);

	d->limit_ms = limit < d->last_ms ? limit : d->last_ms;
}

/* One place could not be emptied. Is there another, and time for it? */
static bool go_elsewhere(struct engine *e, struct drain *d, uint64_t now) NEEDS(e->lock)
{
	struct pool_culprit who;

	if (!d->search.nr || d->cancelled || now >= d->last_ms)
		return false;
	range_undo_isolate(&e->pool, d->first, d->end);
	d->isolated = false;
	if (isolate_any(e, d, &who))
		return false;
	d->culprit = (struct engine_culprit){ 0 };
	note_progress(d, now);
	return true;
}

/* It is over. On failure everything is in use again, and of a claim all else. */
static enum engine_migrate finish(struct engine *e, int nid, int err, struct engine_drained *out)
	NEEDS(e->lock)
{
	struct drain *d = e->drain[nid];

	if (d->isolated && (err || d->claim))
		range_undo_isolate(&e->pool, d->first, d->end);
	out->err = err;
	out->first = d->first;
	out->end = d->end;
	e->drain[nid] = NULL;
	free(d);
	count_bytes(e, -(int64_t)sizeof(*d));
	return ENGINE_MIGRATE_DONE;
}

static bool is_live(struct engine *e, uint32_t frame) NEEDS(e->lock)
{
	uint32_t node = pool_word(&e->pool, frame);

	return node != POOL_NONE && stable_node(&e->stable, node)->state == STABLE_LIVE;
}

/* Say what keeps the range: what the mover found last, or else this frame. */
static void name(struct engine *e, const struct drain *d, uint32_t frame,
		 struct engine_drained *out) NEEDS(e->lock)
{
	out->culprit = d->culprit;
	if (d->culprit.why && is_live(e, d->culprit.frame))
		return;
	out->culprit = (struct engine_culprit){ .frame = frame };
	out->why = is_live(e, frame) ? "in use" : "retired: processes may still map it";
}

/*
 * First frame that is not free, or POOL_NONE; and a later one that the mover can take, or where to
 * look on for it. What was found free stays free, because it is isolated.
 */
static uint32_t first_used(struct engine *e, struct drain *d, uint32_t *live) NEEDS(e->lock)
{
	uint32_t first = pool_next_used(&e->pool, d->next, d->of.end), stop;

	d->next = first == POOL_NONE ? d->of.end : first;
	stop = d->of.end - d->next > VISIT ? d->next + VISIT : d->of.end;
	*live = first;
	while (*live != POOL_NONE && !is_live(e, *live))
		*live = pool_next_used(&e->pool, *live + 1, stop);
	if (*live == POOL_NONE && stop < d->of.end)
		*live = stop;
	return first;
}

static enum engine_migrate look(struct engine *e, int nid, uint64_t now, struct engine_drained *out)
	NEEDS(e->lock)
{
	struct drain *d = e->drain[nid];
	uint32_t next = d->next, live, f = first_used(e, d, &live);
	int err = 0;

	if (d->next > next)
		note_progress(d, now);
	if (f == POOL_NONE && !d->cancelled) {
		struct pool_culprit who;

		err = d->claim ? claim_take(&e->pool, d->first, d->end, &who) :
				 range_take_out(&e->pool, d->first, d->end, &who);
		if (!err)
			return finish(e, nid, 0, out);
		out->culprit.frame = who.frame;
		out->why = who.why;
	}
	if (d->cancelled || now >= d->limit_ms) {
		if (f != POOL_NONE)
			name(e, d, live == POOL_NONE ? f : live, out);
		err = d->culprit.why == MOVE_NO_MEMORY ? -ENOMEM : -EBUSY;
		if (go_elsewhere(e, d, now))
			return ENGINE_MIGRATE_WAIT;
		return finish(e, nid, d->cancelled ? -ECANCELED : err, out);
	}
	if (live == POOL_NONE || now < d->round_ms) /* for the grace period, or a frame's node */
		return ENGINE_MIGRATE_WAIT;
	d->moving = !migrate_begin(e, nid, &d->of);
	d->round_ms = now + d->backoff_ms;
	d->backoff_ms = d->backoff_ms * 2 < ROUND_MAX_MS ? d->backoff_ms * 2 : ROUND_MAX_MS;
	return d->moving ? ENGINE_MIGRATE_MORE : ENGINE_MIGRATE_WAIT;
}

enum engine_migrate engine_drain_step(struct engine *e, int nid, uint64_t now_ms,
				      struct engine_drained *out)
{
	enum engine_migrate ret = ENGINE_MIGRATE_NONE;
	struct engine_migrated moved = { 0 };
	bool moving;
	struct drain *d;

	engine_lock(e);
	d = e->drain[nid];
	moving = d && d->moving;
	if (d && !d->limit_ms) {
		d->last_ms = now_ms + LAST_TIMES * patience(d);
		note_progress(d, now_ms);
	}
	engine_unlock(e);
	if (moving && now_ms >= d->limit_ms)
		engine_migrate_end(e, nid);
	if (moving)
		ret = migrate_step(e, nid, now_ms, &moved);
	if (moved.frames || moved.placed)
		note_progress(d, now_ms);
	if (d && (!moving || ret <= ENGINE_MIGRATE_DONE)) {
		engine_lock(e);
		d->moving = false;
		if (moved.culprit.why)
			d->culprit = moved.culprit;
		out->retired = moved.frames > 0 || moving;
		ret = look(e, nid, now_ms, out);
		engine_unlock(e);
	} else if (moved.culprit.why) {
		d->culprit = moved.culprit;
	}
	engine_migrated_add(&out->moved, &moved);
	return ret;
}
