/* SPDX-License-Identifier: MIT */
/*
 * range.c - see range.h.
 *
 * Safe because a frame of an isolated pageblock is never handed out: its free runs are on lists
 * that choice.c does not take from, caches hold none of its frames, and absent pageblocks do not
 * come to exist. So once a look finds no frame in use, none will be, until the isolation ends.
 */
#include "pool/range.h"

#include <errno.h>

#include "pool/cache.h"
#include "pool/choice.h"

/* A range within one zone, numbered there. */
struct part {
	struct zone *z;
	uint32_t base, lo, hi;
	uint32_t first, last; /* pageblocks that it touches, inclusive */
};

/* What is wrong with the range, or NULL. */
static const char *no_range(const struct pool *p, uint32_t start, uint32_t end)
{
	if (start >= end)
		return start > end ? "it ends before it starts" : "no frames";
	if (end > pool_nr_frames(p))
		return "beyond the last frame";
	return pool_nid(p, start) != pool_nid(p, end - 1) ? "in two zones" : NULL;
}

/* False: *who has the reason. */
static bool part_of(const struct pool *p, uint32_t start, uint32_t end, struct part *r,
		    struct pool_culprit *who)
{
	*who = (struct pool_culprit){ .frame = POOL_NONE, .why = no_range(p, start, end) };
	if (who->why)
		return false;
	r->z = &p->zone[pool_nid(p, start)];
	r->base = (uint32_t)r->z->nid * p->zone_frames;
	r->lo = start - r->base;
	r->hi = end - r->base;
	r->first = r->lo / PAGEBLOCK_FRAMES;
	r->last = (r->hi - 1) / PAGEBLOCK_FRAMES;
	return true;
}

static int blame(struct pool_culprit *who, uint32_t frame, const char *why, int err)
{
	*who = (struct pool_culprit){ .frame = frame, .why = why };
	return err;
}

/* --- isolation --- */

static uint64_t bit_of(uint32_t block)
{
	return u64_bit(block % EXTENT_PAGEBLOCKS);
}

/*
 * First frame of the pageblock that lies in the range and cannot move, or POOL_NONE. A guard frame
 * goes with the frame before it, which is in the same pageblock.
 */
static uint32_t fixed_in(const struct part *r, const struct pageblock *pb)
{
	uint32_t f = pb->first < r->lo ? r->lo : pb->first;

	for (; pb->nr_fixed && f < r->hi && f < pb->first + pb->nr; f++) {
		uint32_t off = f - pb->first;

		if (pb->state[pageblock_state(pb, off) == POOL_GUARD ? off - 1 : off] & POOL_FIXED)
			return f;
	}
	return POOL_NONE;
}

static int may_isolate(const struct part *r, uint32_t b, bool windows, struct pool_culprit *who)
	NEEDS(r->z->lock)
{
	const struct extent *x = zone_extent(r->z, b);
	const struct pageblock *pb;
	uint32_t frame = r->base + b * PAGEBLOCK_FRAMES, f;

	if (!x)
		return 0;
	if (x->isolated & bit_of(b))
		return blame(who, frame, "isolated by another", -EBUSY);
	if (x->offline & bit_of(b))
		return blame(who, frame, "offline", -EBUSY);
	pb = x->pb[b % EXTENT_PAGEBLOCKS];
	if (!pb)
		return 0;
	if (pb->window && !windows)
		return blame(who, frame, "a window", -EBUSY);
	if (pb->n[POOL_HELD])
		return blame(who, frame, "a large folio in use", -EBUSY);
	f = fixed_in(r, pb);
	return f == POOL_NONE ? 0 : blame(who, r->base + f, "cannot move", -EBUSY);
}

static void undo_block(struct zone *z, uint32_t b) NEEDS(z->lock)
{
	struct extent *x = zone_extent(z, b);
	struct pageblock *pb;

	if (!x || !(x->isolated & bit_of(b)))
		return;
	pb = x->pb[b % EXTENT_PAGEBLOCKS];
	if (pb) {
		zone_set_isolated(z, pb, false);
		zone_settle(z, pb);
	} else {
		x->isolated &= ~bit_of(b);
		zone_extent_drop(z, b);
	}
}

static void undo_blocks(struct zone *z, uint32_t first, uint32_t end) NEEDS(z->lock)
{
	for (uint32_t b = first; b < end; b++)
		undo_block(z, b);
}

static int isolate_blocks(struct zone *z, uint32_t first, uint32_t last) NEEDS(z->lock)
{
	/* An empty pageblock may go with the last of its frames that were in caches. */
	cache_purge(z, first * PAGEBLOCK_FRAMES, (last + 1) * PAGEBLOCK_FRAMES);
	for (uint32_t b = first; b <= last; b++) {
		struct extent *x = zone_extent_get(z, b);

		if (!x) {
			undo_blocks(z, first, b);
			return -ENOMEM;
		}
		if (x->pb[b % EXTENT_PAGEBLOCKS])
			zone_set_isolated(z, x->pb[b % EXTENT_PAGEBLOCKS], true);
		else
			x->isolated |= bit_of(b);
	}
	return 0;
}

static void end_windows(struct zone *z, uint32_t first, uint32_t last) NEEDS(z->lock)
{
	for (uint32_t b = first; b <= last; b++) {
		const struct pageblock *pb = zone_pageblock(z, b);

		if (pb && pb->window)
			choice_window_end(z, b);
	}
}

/* `windows`: those in it are none any more. */
static int isolate(const struct part *r, bool windows, struct pool_culprit *who)
{
	int err = 0;

	zone_lock_all(r->z);
	for (uint32_t b = r->first; b <= r->last && !err; b++)
		err = may_isolate(r, b, windows, who);
	if (!err)
		err = isolate_blocks(r->z, r->first, r->last);
	if (!err && windows)
		end_windows(r->z, r->first, r->last);
	zone_unlock_all(r->z);
	return err;
}

static int isolate_range(struct pool *p, uint32_t start, uint32_t end, bool windows,
			 struct pool_culprit *who)
{
	struct part r;
	int err;

	if (!part_of(p, start, end, &r, who))
		return -EINVAL;
	err = isolate(&r, windows, who);
	if (!err)
		pool_moment(p, r.z, POOL_AT_ISOLATED, r.lo);
	return err;
}

int range_isolate(struct pool *p, uint32_t start, uint32_t end, struct pool_culprit *who)
{
	return isolate_range(p, start, end, false, who);
}

int range_isolate_windows(struct pool *p, uint32_t start, uint32_t end, struct pool_culprit *who)
{
	return isolate_range(p, start, end, true, who);
}

int range_undo_isolate(struct pool *p, uint32_t start, uint32_t end)
{
	struct pool_culprit who;
	struct part r;

	if (!part_of(p, start, end, &r, &who))
		return -EINVAL;
	zone_lock_all(r.z);
	undo_blocks(r.z, r.first, r.last + 1);
	zone_unlock_all(r.z);
	return 0;
}

/* --- emptying --- */

static uint8_t byte_at(const struct zone *z, uint32_t f) NEEDS(z->lock)
{
	const struct pageblock *pb = f < z->nr_frames ? zone_pageblock(z, f / PAGEBLOCK_FRAMES) :
							NULL;

	return pb ? __atomic_load_n(&pb->state[f % PAGEBLOCK_FRAMES], __ATOMIC_RELAXED) :
		    POOL_ABSENT;
}

/* A run in use, or a single frame. */
struct run {
	uint32_t first, nr;
	enum pool_state state; /* of its first frame in the range, or before a guard there */
};

/* The first run from f on that is in use and has a frame below `hi`. It may begin before f. */
static bool next_run(struct zone *z, uint32_t f, uint32_t hi, struct run *out)
{
	bool found = false;

	lock_take(&z->lock);
	while (f < hi && !found) {
		const struct pageblock *pb = zone_pageblock(z, f / PAGEBLOCK_FRAMES);
		enum pool_state s = byte_at(z, f) & POOL_STATE_MASK;

		if (!pb || pageblock_is_empty(pb))
			f = (f / PAGEBLOCK_FRAMES + 1) * PAGEBLOCK_FRAMES;
		else if (s == POOL_FREE)
			f++;
		else
			found = true;
	}
	if (found) {
		uint32_t end;

		if ((byte_at(z, f) & POOL_STATE_MASK) == POOL_GUARD)
			f--; /* it goes with the run before it */
		out->state = byte_at(z, f) & POOL_STATE_MASK;
		end = f + 1;
		while (f && byte_at(z, f) & POOL_TAIL)
			f--;
		while (byte_at(z, end) & POOL_TAIL)
			end++;
		out->first = f;
		out->nr = end - f;
	}
	lock_give(&z->lock);
	return found;
}

/* Of the least run that has room for nr frames. */
static unsigned int order_for(uint32_t nr)
{
	unsigned int order = 0;

	while (1u << order < nr)
		order++;
	return order;
}

static uint32_t take_target(struct zone *z, uint32_t nr)
{
	uint32_t f;

	lock_take(&z->lock);
	f = choice_run(z, POOL_MOVABLE, order_for(nr), false, POOL_USED);
	lock_give(&z->lock);
	return f;
}

/* Zone-local frames for the contents of a run, and their zone; NULL: there is no room. */
static struct zone *find_target(const struct pool *p, const struct part *r, uint32_t nr,
				bool anywhere, uint32_t *to)
{
	struct zone *z = r->z;

	*to = take_target(z, nr);
	for (int i = 1; *to == POOL_NONE && anywhere && i < p->nr_zones; i++) {
		z = &p->zone[(r->z->nid + i) % p->nr_zones];
		*to = take_target(z, nr);
	}
	return *to == POOL_NONE ? NULL : z;
}

/* Move one run. 0: it is free now; or -ENOENT, -EAGAIN, or an error for good. */
static int move_run(struct pool *p, const struct part *r, const struct run *run,
		    struct range_job *job)
{
	uint32_t to, size = 1u << order_for(run->nr);
	struct zone *z;
	int err;

	blame(&job->who, r->base + run->first, "in use", 0);
	if (!p->ops.move)
		return -EBUSY;
	z = find_target(p, r, run->nr, job->anywhere, &to);
	if (!z)
		return blame(&job->who, r->base + run->first, "no room elsewhere", -ENOMEM);
	if (size > run->nr)
		pool_give(p, z, to + run->nr, size - run->nr, false);
	err = p->ops.move(p->ctx, r->base + run->first, run->nr,
			  (uint32_t)z->nid * p->zone_frames + to, &job->who);
	if (err) {
		pool_give(p, z, to, run->nr, true);
		return err;
	}
	pool_moment(p, r->z, POOL_AT_MOVED, run->first);
	pool_give(p, r->z, run->first, run->nr, true);
	pool_moment(p, r->z, POOL_AT_GIVEN, run->first);
	return 0;
}

/* One walk through the range. 0, -EAGAIN: frames are left, or an error for good. */
static int attempt(struct pool *p, const struct part *r, struct range_job *job)
{
	uint32_t f = r->lo;
	int left = 0, err;
	struct run run;

	while (next_run(r->z, f, r->hi, &run)) {
		if (__atomic_load_n(&job->cancel, __ATOMIC_RELAXED))
			return -ECANCELED;
		if (run.state == POOL_USED)
			err = move_run(p, r, &run, job);
		else
			err = blame(&job->who, r->base + run.first,
				    "retired: processes may still map it", -EAGAIN);
		if (err && err != -ENOENT && err != -EAGAIN)
			return err;
		if (err == -EAGAIN)
			left = err;
		f = run.first + run.nr > f ? run.first + run.nr : f + 1;
	}
	return left;
}

static uint64_t now_ms(const struct pool *p)
{
	return p->ops.now_ms ? p->ops.now_ms(p->ctx) : 0;
}

static int empty(struct pool *p, const struct part *r, struct range_job *job)
{
	uint64_t end = now_ms(p) + job->timeout_ms;
	bool can_wait = p->ops.pause && p->ops.now_ms;

	pool_moment(p, r->z, POOL_AT_ISOLATED, r->lo);
	for (unsigned int n = 1;; n++) {
		int err = attempt(p, r, job);

		if (!err)
			pool_moment(p, r->z, POOL_AT_EMPTIED, r->lo);
		if (err != -EAGAIN)
			return err;
		if (can_wait ? now_ms(p) >= end : n >= RANGE_ATTEMPTS)
			return -EBUSY;
		if (can_wait)
			p->ops.pause(p->ctx);
	}
}

/* --- contiguous ranges --- */

/* Absent and empty pageblocks are passed by whole, so that a zone is looked at within ms. */
static bool is_free(const struct part *r, struct pool_culprit *who) NEEDS(r->z->lock)
{
	for (uint32_t f = r->lo; f < r->hi; f++) {
		const struct pageblock *pb = zone_pageblock(r->z, f / PAGEBLOCK_FRAMES);

		if (!pb || pageblock_is_empty(pb)) {
			f |= PAGEBLOCK_FRAMES - 1;
			continue;
		}
		if (pageblock_state(pb, f % PAGEBLOCK_FRAMES) == POOL_FREE)
			continue;
		blame(who, r->base + f, "in use", 0);
		return false;
	}
	return true;
}

/* Every frame is free or absent, and everything is isolated. 0 or -ENOMEM. */
static int take_all(struct zone *z, uint32_t lo, uint32_t hi) NEEDS(z->lock)
{
	/* On failure those that exist now go again when isolation ends. */
	for (uint32_t b = lo / PAGEBLOCK_FRAMES; b <= (hi - 1) / PAGEBLOCK_FRAMES; b++)
		if (!zone_pageblock(z, b) && !zone_grow(z, b, POOL_MOVABLE))
			return -ENOMEM;
	for (uint32_t f = lo; f < hi; f++)
		zone_cut(z, zone_pageblock(z, f / PAGEBLOCK_FRAMES), f % PAGEBLOCK_FRAMES, 0,
			 POOL_USED);
	return 0;
}

int range_alloc(struct pool *p, uint32_t start, uint32_t end, struct range_job *job)
{
	struct part r;
	int err;

	if (!part_of(p, start, end, &r, &job->who))
		return -EINVAL;
	if (!pool_charge(p, end - start))
		return blame(&job->who, POOL_NONE, "the limit on frames", -ENOMEM);
	err = isolate(&r, false, &job->who);
	if (err) {
		pool_uncharge(p, end - start);
		return err;
	}
	err = empty(p, &r, job);
	zone_lock_all(r.z);
	if (!err)
		err = is_free(&r, &job->who) ? take_all(r.z, r.lo, r.hi) : -EBUSY;
	undo_blocks(r.z, r.first, r.last + 1);
	zone_unlock_all(r.z);
	if (err)
		pool_uncharge(p, end - start);
	return err;
}

enum fit { FIT_NOT, FIT_MOVE, FIT_FREE };

/* How frames of pageblock b can be had; what is in use there may lie beside those wanted. */
static enum fit block_fit(const struct zone *z, uint32_t b) NEEDS(z->lock)
{
	const struct extent *x = zone_extent(z, b);
	const struct pageblock *pb;

	if (!x)
		return FIT_FREE;
	if ((x->isolated | x->offline) & bit_of(b))
		return FIT_NOT;
	pb = x->pb[b % EXTENT_PAGEBLOCKS];
	if (!pb || pageblock_is_empty(pb))
		return FIT_FREE;
	return pb->window || pb->nr_fixed || pb->n[POOL_RETIRED] || pb->n[POOL_HELD] ? FIT_NOT :
										       FIT_MOVE;
}

/* The first place from `f` on that fits as `wanted`; POOL_NONE: none below `hi`. */
static uint32_t find_place(struct zone *z, uint32_t f, uint32_t hi, uint32_t nr, uint32_t align,
			   enum fit wanted)
{
	uint32_t b, bad;

	lock_take(&z->lock);
	while (f <= hi && hi - f >= nr) {
		bad = POOL_NONE;
		for (b = f / PAGEBLOCK_FRAMES; b <= (f + nr - 1) / PAGEBLOCK_FRAMES; b++)
			if (block_fit(z, b) < wanted)
				bad = b;
		if (bad == POOL_NONE)
			break;
		f = ((bad + 1) * PAGEBLOCK_FRAMES + align - 1) & ~(align - 1);
	}
	lock_give(&z->lock);
	return f <= hi && hi - f >= nr ? f : POOL_NONE;
}

/* What is wrong with so many frames of a range, or NULL. */
static const char *no_fit(const struct part *r, uint32_t nr, uint32_t align)
{
	if (!nr || nr > r->hi - r->lo)
		return nr ? "more frames than the range has" : "no frames";
	return !align || align & (align - 1) || r->base % align ? "no alignment" : NULL;
}

int range_alloc_any(struct pool *p, uint32_t start, uint32_t end, uint32_t nr, uint32_t align,
		    struct range_job *job, uint32_t *frame)
{
	unsigned int failed = 0;
	struct part r;
	int err = -EBUSY;

	*frame = POOL_NONE;
	if (!part_of(p, start, end, &r, &job->who))
		return -EINVAL;
	job->who.why = no_fit(&r, nr, align);
	if (job->who.why)
		return -EINVAL;
	job->who.why = "no place that could be emptied";
	for (enum fit fit = FIT_FREE; fit > FIT_NOT; fit--) {
		uint32_t f = (r.lo + align - 1) & ~(align - 1);

		while (failed < RANGE_ATTEMPTS) {
			f = find_place(r.z, f, r.hi, nr, align, fit);
			if (f == POOL_NONE)
				break;
			err = range_alloc(p, r.base + f, r.base + f + nr, job);
			if (!err) {
				*frame = r.base + f;
				return 0;
			}
			failed += fit == FIT_MOVE;
			f += nr > align ? (nr + align - 1) & ~(align - 1) : align;
		}
	}
	return err;
}

/* --- offline --- */

static bool is_isolated(const struct zone *z, uint32_t b) NEEDS(z->lock)
{
	const struct extent *x = zone_extent(z, b);

	return x && x->isolated & bit_of(b);
}

/* Isolated and empty: the pageblocks go, and do not come back. */
static void take_out(const struct part *r) NEEDS(r->z->lock)
{
	for (uint32_t b = r->first; b <= r->last; b++) {
		struct extent *x = zone_extent(r->z, b);

		x->offline |= bit_of(b);
		if (x->pb[b % EXTENT_PAGEBLOCKS])
			zone_shrink(r->z, x->pb[b % EXTENT_PAGEBLOCKS]);
		x->isolated &= ~bit_of(b);
	}
}

static bool whole_part_of(const struct pool *p, uint32_t start, uint32_t end, struct part *r,
			  struct pool_culprit *who)
{
	if (part_of(p, start, end, r, who) &&
	    (r->lo % PAGEBLOCK_FRAMES || (r->hi % PAGEBLOCK_FRAMES && r->hi != r->z->nr_frames)))
		who->why = "part of a pageblock";
	return !who->why;
}

int range_offline(struct pool *p, uint32_t start, uint32_t end, struct range_job *job)
{
	struct part r;
	int err;

	if (!whole_part_of(p, start, end, &r, &job->who))
		return -EINVAL;
	err = isolate(&r, false, &job->who);
	if (err)
		return err;
	err = empty(p, &r, job);
	zone_lock_all(r.z);
	if (!err && !is_free(&r, &job->who))
		err = -EBUSY;
	if (err)
		undo_blocks(r.z, r.first, r.last + 1);
	else
		take_out(&r);
	zone_unlock_all(r.z);
	return err;
}

int range_take_out(struct pool *p, uint32_t start, uint32_t end, struct pool_culprit *who)
{
	struct part r;
	int err = 0;

	if (!whole_part_of(p, start, end, &r, who))
		return -EINVAL;
	zone_lock_all(r.z);
	for (uint32_t b = r.first; b <= r.last && !err; b++)
		if (!is_isolated(r.z, b))
			err = blame(who, r.base + b * PAGEBLOCK_FRAMES, "not isolated", -EBUSY);
	if (!err && !is_free(&r, who))
		err = -EBUSY;
	if (!err)
		take_out(&r);
	zone_unlock_all(r.z);
	return err;
}

int range_online(struct pool *p, uint32_t start, uint32_t end)
{
	struct pool_culprit who;
	struct part r;

	if (!whole_part_of(p, start, end, &r, &who))
		return -EINVAL;
	lock_take(&r.z->lock);
	for (uint32_t b = r.first; b <= r.last; b++)
		zone_online(r.z, b);
	lock_give(&r.z->lock);
	return 0;
}
