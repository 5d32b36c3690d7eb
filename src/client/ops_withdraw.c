/* SPDX-License-Identifier: MIT */
/*
 * ops_withdraw.c - take ranges off their frames, in steps.
 *
 * The agent un-shares page by page and must not merge again between the steps, nor may the lock be
 * held while a thread waits for it. So the range is marked (AS_UNSHARING) until it is done. The
 * request lock of mailbox.h serialises withdrawals, so nobody else takes the mark away.
 *
 * Where the program itself says that it wants no merging any more, it may look at the counters
 * next, and finds them as they are then: the daemon has heard of it when the call returns.
 *
 * Programs withdraw and lock page by page, too, and all of that takes 100 us. So a few pages become
 * private where they are: the kernel breaks the sharing, 4 us each, and tracking shows it to the
 * daemon before it answers for a counter. They stay in the mapping of frames like any page that was
 * written. Withdrawn ones leave it when the program has been quiet and the agent puts anonymous
 * memory there (unshare_withdrawn()). Only zero pages are on no frame, and nothing but the
 * program's word tells of them; where there may be any the daemon is waited for.
 */
#include "client/ops_withdraw.h"

#include <sys/mman.h>

#include "base/span.h"
#include "client/agent.h"
#include "client/as_frames.h"
#include "client/as_queue.h"
#include "client/as_ranges.h"
#include "client/mailbox.h"
#include "client/ops.h"
#include "client/sysc.h"
#include "wire/kernel_abi.h"

/* Pages: from about here on the agent costs less. */
#define IN_PLACE_MAX 16

/* The range is left out for this reason, or (why < 0) not wanted any more. */
static void leave_out(struct as_range *r, long why)
{
	if (why >= 0)
		r->left_out |= (uint16_t)(1u << why);
	else
		r->flags &= (uint16_t) ~(AS_WANTED | AS_ADVISED);
}

static void mark_unsharing(struct as_range *r, long why)
{
	r->flags |= AS_UNSHARING;
	leave_out(r, why);
}

static void unmark_unsharing(struct as_range *r, long arg)
{
	(void)arg;
	r->flags &= (uint16_t)~AS_UNSHARING;
}

/* Take away all marks: there was no memory to split ranges, and no other thread has marks. */
static void unmark_all(void) NEEDS(as.lock)
{
	for (struct as_range *r = as_first(0); r; r = as_next(r))
		unmark_unsharing(r, 0);
}

/* The kernel breaks the sharing of a few pages. False: not of all, or there are too many. */
static bool break_in_place(uint64_t start, uint64_t end) NEEDS(as.lock)
{
	const uint16_t no = 1u << KSM_LEFT_UFFD | 1u << KSM_LEFT_MLOCKED;
	uint64_t run_end;

	if (end - start > IN_PLACE_MAX * KSM_PAGE_SIZE || as.gave_zeros)
		return false;
	for (uint64_t at = start; as_frames_next(&at, &run_end, end); at = run_end) {
		const struct as_range *r = as_range_at(at);

		/* A mapping of frames has no policy, so what has one must leave it at once. */
		if (!r || r->prot != (PROT_READ | PROT_WRITE) || r->left_out & no ||
		    r->flags & AS_POLICY)
			return false;
		run_end = u64_min(run_end, r->end);
		if (sysc3(SYS_madvise, at, run_end - at, MADV_POPULATE_WRITE))
			return false;
		if (!as.withdrawn_end)
			as.withdrawn_start = at;
		as.withdrawn_start = u64_min(as.withdrawn_start, at);
		as.withdrawn_end = u64_max(as.withdrawn_end, run_end);
	}
	return true;
}

/*
 * A few pages that the program withdraws itself, or locks. Returns 0 or -ENOMEM; 1: they are not.
 * (Locked memory that was written lies in mappings of frames, too, if it was merged before.)
 */
static long withdraw_in_place(uint64_t start, uint64_t end, int why)
{
	struct as_guard g;
	long r = 1;

	ops_enter(&g);
	if (!as_knows(start, end))
		r = 0;
	else if (break_in_place(start, end))
		r = as_edit(start, end, leave_out, why);
	if (!r && as_knows(start, end))
		as_event(KSM_MSG_DEL, start, end);
	ops_leave(&g, false);
	return r;
}

long ops_withdraw(uint64_t start, uint64_t end, int why)
{
	struct as_guard g;
	uint64_t sigmask, at = start, run_end;
	bool frames = false;
	long r = why < 0 || why == KSM_LEFT_MLOCKED ? withdraw_in_place(start, end, why) : 1;

	if (r <= 0)
		return r;
	if (as_is_orphan()) /* the parent's threads may have held the request lock */
		ops_start_over(true);
	mailbox_begin(&sigmask);
	ops_enter(&g);
	if (!as_knows(start, end)) {
		as_leave(&g);
		mailbox_end(&sigmask);
		return 0;
	}
	r = as_edit(start, end, mark_unsharing, why);
	frames = !r && as_frames_next(&at, &run_end, end);
	as_leave(&g);
	if (frames || (!r && why == KSM_LEFT_UFFD && atomic_load(&mailbox.tid) > 0))
		r = agent_unshare(start, end);
	ops_enter(&g);
	if (as_edit(start, end, unmark_unsharing, 0) < 0)
		unmark_all();
	if (!r)
		as_event(KSM_MSG_DEL, start, end);
	ops_leave(&g, false);
	if (!r && why < 0)
		mailbox_heard();
	mailbox_end(&sigmask);
	return r;
}

static bool is_unsharing(uint64_t start, uint64_t end) NEEDS(as.lock)
{
	for (const struct as_range *r = as_first(start); r && r->start < end; r = as_next(r))
		if (r->flags & AS_UNSHARING)
			return true;
	return false;
}

/* A withdrawal takes its mark away before it gives the request lock back. */
void ops_enter_unmarked(struct as_guard *g, uint64_t start, uint64_t end)
{
	uint64_t sigmask;

	ops_enter(g);
	while (is_unsharing(start, end)) {
		as_leave(g);
		mailbox_begin(&sigmask);
		mailbox_end(&sigmask);
		ops_enter(g);
	}
}
