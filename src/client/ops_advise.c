/* SPDX-License-Identifier: MIT */
/* ops_advise.c - madvise. */
#include <errno.h>
#include <sys/mman.h>

#include "client/as_frames.h"
#include "client/as_queue.h"
#include "client/as_ranges.h"
#include "client/client.h"
#include "client/ops.h"
#include "client/ops_discard.h"
#include "client/ops_learn.h"
#include "client/ops_process.h"
#include "client/ops_withdraw.h"
#include "client/sysc.h"
#include "wire/kernel_abi.h"

static void want(struct as_range *r, long arg)
{
	(void)arg;
	r->flags |= AS_WANTED | AS_ADVISED;
	r->left_out &=
		(uint16_t) ~(1u << KSM_LEFT_SPLICED); /* the program's word that it is over */
}

static long offer(uint64_t start, uint64_t end)
{
	struct offer_ctx c = { start, end, start, false, false };
	struct as_guard g;

	if (ksmc_init() < 0)
		return -ENOMEM;
	ops_enter(&g);
	ops_learn(&c);
	if (as_edit(start, end, want, 0) < 0)
		c.nomem = true;
	as_event(KSM_MSG_ADD, start, end);
	if (ops_leave(&g, as_knows(start, end)) < 0)
		c.nomem = true;
	return c.nomem || c.gap || c.at < end ? -ENOMEM : 0;
}

static long unmerge(uint64_t start, uint64_t end)
{
	/* Is there a gap? Does nothing else, and needs no descriptor. */
	return ops_withdraw(start, end, -1) ||
			       sysc3(SYS_msync, start, end - start, MS_ASYNC) == -ENOMEM ?
		       -ENOMEM :
		       0;
}

static int reason_of_advice(int advice, bool *undo)
{
	*undo = advice == MADV_DOFORK || advice == MADV_KEEPONFORK || advice == MADV_DODUMP;
	switch (advice) {
	case MADV_DONTFORK:
	case MADV_DOFORK:
		return KSM_LEFT_DONTFORK;
	case MADV_WIPEONFORK:
	case MADV_KEEPONFORK:
		return KSM_LEFT_WIPEONFORK;
	case MADV_DONTDUMP:
	case MADV_DODUMP:
		return KSM_LEFT_DONTDUMP;
	default:
		return -1;
	}
}

/*
 * What to say of a run of frames in place of `advice`. After un-sharing only pages that broke
 * copy-on-write stand there, and memory of a file cannot be wiped on fork: it is kept from the child,
 * who gets fresh memory from wipe_in_child().
 */
static int advice_on_frames(int advice, uint16_t left_out)
{
	bool dontfork = left_out & 1u << KSM_LEFT_DONTFORK;
	bool wipe = left_out & 1u << KSM_LEFT_WIPEONFORK;

	switch (advice) {
	case MADV_WIPEONFORK:
		return MADV_DONTFORK;
	case MADV_KEEPONFORK:
		return dontfork ? MADV_NORMAL : MADV_DOFORK;
	case MADV_DOFORK:
		return wipe ? MADV_NORMAL : MADV_DOFORK;
	default:
		return advice;
	}
}

/* Part by part, in the order of addresses; see discard_range(). Lock held. */
static long advise_parts(uint64_t start, uint64_t end, int advice) NEEDS(as.lock)
{
	long gap = 0, r;

	while (start < end) {
		uint64_t run = start, run_end = end;
		int say = advice;

		if (!as_frames_next(&run, &run_end, end)) {
			run = end;
		} else if (run == start) {
			size_t i = as_find(start);
			bool known = i < as.nr && as.range[i].start <= start;

			if (known && as.range[i].end < run_end)
				run_end = as.range[i].end;
			say = advice_on_frames(advice, known ? as.range[i].left_out : 0);
			run = run_end;
		}
		r = sysc3(SYS_madvise, start, run - start, say);
		if (r == -ENOMEM)
			gap = r;
		else if (r)
			return r;
		start = run;
	}
	return gap;
}

/* DONTFORK, WIPEONFORK, DONTDUMP and their opposites. */
static long advise_forks(uint64_t start, uint64_t end, int advice, enum ksm_left_out why, bool undo)
{
	struct as_guard g;
	long r = undo ? 0 : ksmc_exclude((void *)start, end - start, why);

	if (r)
		return r;
	if (!atomic_load_explicit(&as.active, memory_order_relaxed))
		return sysc3(SYS_madvise, start, end - start, advice);
	ops_enter(&g);
	r = advise_parts(start, end, advice);
	ops_leave(&g, false);
	if (undo && !r)
		ksmc_include((void *)start, end - start, why);
	return r;
}

long ksmc_madvise(void *addr, size_t len, int advice) NEEDS(as.lock)
{
	uint64_t start = (uintptr_t)addr, end = page_up(start + len);
	bool undo;
	int why;

	if (advice == MADV_MERGEABLE || advice == MADV_UNMERGEABLE) {
		if (start % KSM_PAGE_SIZE || end < start || (len && end == start))
			return -EINVAL;
		if (!len)
			return 0;
		return advice == MADV_MERGEABLE ? offer(start, end) : unmerge(start, end);
	}
	why = reason_of_advice(advice, &undo);
	if (start % KSM_PAGE_SIZE || end <= start)
		return sysc3(SYS_madvise, addr, len, advice);
	if (why >= 0)
		return advise_forks(start, end, advice, (enum ksm_left_out)why, undo);
	if (!atomic_load_explicit(&as.active, memory_order_relaxed))
		return sysc3(SYS_madvise, addr, len, advice);
	if (advice == MADV_DONTNEED || advice == MADV_DONTNEED_LOCKED || advice == MADV_FREE ||
	    advice == MADV_GUARD_INSTALL)
		return ops_discard(start, end, advice);
	if (advice == MADV_REMOVE && as_knows(start, end))
		return -EINVAL; /* as on anonymous memory */
	return sysc3(SYS_madvise, addr, len, advice);
}
