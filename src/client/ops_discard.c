/* SPDX-License-Identifier: MIT */
/*
 * ops_discard.c - advice that throws contents away, on memory where frames may stand.
 *
 * The kernel goes in the order of addresses, does what comes before memory that it refuses, and
 * stops there; a gap is an error in the end. The wrapper goes the same way in parts: it gives the
 * kernel what stands on no frames and maps fresh zeros over runs of frames. It refuses locked
 * memory where the kernel would, and nothing is lost to advice that this kernel does not know.
 */
#include "client/ops_discard.h"

#include <errno.h>

#include "client/as_frames.h"
#include "client/as_queue.h"
#include "client/as_ranges.h"
#include "client/ops.h"
#include "client/sysc.h"
#include "wire/kernel_abi.h"

/*
 * Is any memory of [start, end) locked? The kernel refuses MADV_COLD by the same rule as
 * MADV_DONTNEED. It does nothing to contents, which are thrown away right afterwards.
 */
static bool any_locked(uint64_t start, uint64_t end)
{
	return sysc3(SYS_madvise, start, end - start, MADV_COLD) == -EINVAL;
}

/* The end of the part of [start, end) that is all locked, or all not locked, as its first page. */
static uint64_t same_lock(uint64_t start, uint64_t end, bool locked)
{
	uint64_t ok = start + KSM_PAGE_SIZE, bad = end;

	if (ok == end)
		return end;
	if (locked) { /* page by page: locked ranges that stand on frames are small */
		while (ok < end && any_locked(ok, ok + KSM_PAGE_SIZE))
			ok += KSM_PAGE_SIZE;
		return ok;
	}
	if (!any_locked(start, end))
		return end;
	while (bad - ok > KSM_PAGE_SIZE) {
		uint64_t mid = ok + (bad - ok) / 2 / KSM_PAGE_SIZE * KSM_PAGE_SIZE;

		if (any_locked(start, mid))
			bad = mid;
		else
			ok = mid;
	}
	return ok;
}

/*
 * Where frames could not be mapped over (sealed memory, no mapping to be had) they would show when
 * the guard goes. Then there is none: this kernel call may fail for want of memory.
 */
static long install_guard(uint64_t start, uint64_t end) NEEDS(as.lock)
{
	uint64_t at = start, run_end;

	if (as_frames_next(&at, &run_end, end))
		return -ENOMEM;
	return sysc3(SYS_madvise, start, end - start, MADV_GUARD_INSTALL);
}

/* A run of frames becomes fresh zeros, where the kernel would do that to anonymous memory. */
static long discard_run(uint64_t start, uint64_t end, int advice) NEEDS(as.lock)
{
	while (start < end) {
		bool locked = any_locked(start, start + KSM_PAGE_SIZE);
		uint64_t stop = same_lock(start, end, locked);
		long r;

		if (locked && advice != MADV_DONTNEED_LOCKED)
			return -EINVAL;
		r = ops_empty_frames(start, stop);
		if (!r && advice == MADV_GUARD_INSTALL)
			r = install_guard(start, stop);
		if (r)
			return r;
		if (locked)
			sysc3(SYS_mlock2, start, stop - start, MLOCK_ONFAULT);
		start = stop;
	}
	return 0;
}

/* *start: how far it came, by whole runs of frames. */
static long discard_range(uint64_t *start, uint64_t end, int advice) NEEDS(as.lock)
{
	long gap = 0, r;

	while (*start < end) {
		uint64_t run = *start, run_end = end;

		if (!as_frames_next(&run, &run_end, end))
			run = run_end = end;
		if (run > *start) {
			r = sysc3(SYS_madvise, *start, run - *start, advice);
			if (r == -ENOMEM)
				gap = r;
			else if (r)
				return r;
		}
		*start = run;
		r = run < run_end ? discard_run(run, run_end, advice) : 0;
		if (r)
			return r;
		*start = run_end;
	}
	return gap;
}

long ops_discard(uint64_t start, uint64_t end, int advice)
{
	struct as_guard g;
	uint64_t at = start, run_end, done = end;
	long r;

	ops_enter(&g);
	if (!as_frames_next(&at, &run_end, end)) {
		r = sysc3(SYS_madvise, start, end - start, advice);
	} else {
		done = start;
		/* Does this kernel know the advice? It says so for an empty range. */
		r = sysc3(SYS_madvise, start, 0, advice);
		if (!r)
			r = discard_range(&done, end, advice);
	}
	/* What still stands on frames is not told: the daemon would reuse them. */
	if (done > start && as_knows(start, done))
		as_event(KSM_MSG_FORGET, start, done);
	ops_leave(&g, false);
	return r;
}
