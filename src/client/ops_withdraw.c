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
 */
#include "client/ops_withdraw.h"

#include "client/agent.h"
#include "client/as_frames.h"
#include "client/as_queue.h"
#include "client/as_ranges.h"
#include "client/mailbox.h"
#include "client/ops.h"

static void mark_unsharing(struct as_range *r, long why)
{
	r->flags |= AS_UNSHARING;
	if (why >= 0)
		r->left_out |= (uint16_t)(1u << why);
	else
		r->flags &= (uint16_t) ~(AS_WANTED | AS_ADVISED);
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

long ops_withdraw(uint64_t start, uint64_t end, int why)
{
	struct as_guard g;
	uint64_t sigmask, at = start, run_end;
	bool frames = false;
	long r;

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
