/* SPDX-License-Identifier: MIT */
/*
 * range.h - ranges of frames: isolated, emptied, taken as one, taken out of use.
 *
 * A range is isolated before it is emptied, so that what becomes free in it stays free. Isolation
 * goes by whole pageblocks: those that the range touches. It is a bit beside the type, so to undo
 * it brings every type back. Only frames within the range itself are moved, and the runs that reach
 * over its edges; only these can make it fail. A run that reaches over an edge is moved whole, and
 * its rest is free afterwards.
 *
 * All checks and all bits of one call happen in one hold of the locks, so isolating a range fails
 * whole or succeeds whole, and two callers with ranges that share a pageblock cannot both succeed.
 * Contents are moved with no lock held. Nothing is tried without bound: each attempt goes through
 * the range once, and attempts end with the time or, where the pool cannot wait, after five.
 *
 * Ranges are [start, end) in frames of the pool. They need not be aligned. One that is empty,
 * reversed, outside, or reaches into a second zone is -EINVAL; `who` or job->who has the reason,
 * and nothing has changed.
 */
#ifndef KSM_RANGE_H
#define KSM_RANGE_H

#include "pool/pool.h"

#define RANGE_ATTEMPTS 5u /* as the kernel's contiguous allocations */

/* How far to go, and afterwards what stood in the way. */
struct range_job {
	uint64_t timeout_ms; /* to wait for frames that cannot be moved now */
	bool anywhere;       /* other zones may take the contents */
	bool cancel;         /* atomic; any thread may set it: the call ends with -ECANCELED */
	bool stalled;        /* contig_alloc(): contents were to be moved */
	struct pool_culprit who;
};

/*
 * Isolate the pageblocks that the range touches; absent ones cannot come to exist meanwhile.
 * -EBUSY: one is isolated already or offline, somebody's window, a large folio of which some frames
 * are held, or a frame in the range cannot move; *who says which. -ENOMEM. Then nothing changed.
 */
int range_isolate(struct pool *p, uint32_t start, uint32_t end, struct pool_culprit *who);
/*
 * The same, but windows in it do not refuse. Once it returns 0 they are none any more; their owner
 * forgets them, and does not release them. On failure they are as they were.
 */
int range_isolate_windows(struct pool *p, uint32_t start, uint32_t end, struct pool_culprit *who);
/* The reverse. Pageblocks that are not isolated stay as they are. 0 or -EINVAL. */
int range_undo_isolate(struct pool *p, uint32_t start, uint32_t end);

/*
 * Take the frames [start, end) as used, after what is in them was moved. Returns 0, or as
 * range_isolate(), or: -EBUSY a frame could not be moved in time, -ENOMEM no room for its contents
 * or the limit on frames is reached, -ECANCELED, or what the mover answered. job->who names the
 * frame. On failure nothing is isolated; what was moved stays moved.
 */
int range_alloc(struct pool *p, uint32_t start, uint32_t end, struct range_job *job);
/*
 * Take nr frames within [start, end), the first a multiple of `align` (a power of two): where all
 * are free, else where they can be made so. Their first becomes *frame. Returns 0, -EINVAL, or as
 * the last range_alloc() did, job->who as well; -EBUSY: every place has a frame that cannot move
 * now. At most RANGE_ATTEMPTS ranges are emptied in vain. On failure *frame is POOL_NONE.
 */
int range_alloc_any(struct pool *p, uint32_t start, uint32_t end, uint32_t nr, uint32_t align,
		    struct range_job *job, uint32_t *frame);

/*
 * Empty the pageblocks [start, end), which are whole, and take them out of use. Returns as
 * range_alloc(); -EINVAL also where one is offline already or the range cuts one in two.
 */
int range_offline(struct pool *p, uint32_t start, uint32_t end, struct range_job *job);
/*
 * The last step alone, for an owner that isolated the range and emptied it by itself: 0, -EINVAL,
 * or -EBUSY: a pageblock is not isolated or a frame is in use; then nothing changed.
 */
int range_take_out(struct pool *p, uint32_t start, uint32_t end, struct pool_culprit *who);
/* The reverse: they can come to exist again. Those not offline stay as they are. 0 or -EINVAL. */
int range_online(struct pool *p, uint32_t start, uint32_t end);

#endif
