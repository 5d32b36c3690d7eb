/* SPDX-License-Identifier: MIT */
/*
 * ops_advise.c - madvise.
 *
 * MERGEABLE learns the range and offers it; UNMERGEABLE withdraws it. Advice on forks and core
 * dumps would part the mapping of a frame from its neighbours and is a reason to leave the range
 * out, so it is un-shared first. Advice that throws contents away: ops_discard.h. Everything else
 * goes to the kernel.
 */
#include <errno.h>
#include <sys/mman.h>

#include "base/span.h"
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
	/* The program's word that no pipe holds the pages any more. */
	r->left_out &= (uint16_t) ~(1u << KSM_LEFT_SPLICED);
}

static long offer(uint64_t start, uint64_t end)
{
	struct learned l = { .span = { start, end }, .end = start };
	struct as_guard g;

	if (ksmc_init() < 0)
		return -ENOMEM;
	ops_enter(&g);
	ops_learn(&l);
	if (as_edit(start, end, want, 0) < 0)
		l.nomem = true;
	as_event(KSM_MSG_ADD, start, end);
	if (ops_leave(&g, as_knows(start, end)) < 0)
		l.nomem = true;
	return l.nomem || l.gap || l.end < end ? -ENOMEM : 0;
}

static long withdraw(uint64_t start, uint64_t end)
{
	if (ops_withdraw(start, end, -1))
		return -ENOMEM;
	/* MS_ASYNC says whether there is a gap, does nothing else, and needs no descriptor. */
	return sysc3(SYS_msync, start, end - start, MS_ASYNC) == -ENOMEM ? -ENOMEM : 0;
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
 * What the kernel hears of a run of frames in place of `advice`. After un-sharing only pages that
 * broke copy-on-write stand there. Memory of a file cannot be wiped on fork, so the kernel keeps it
 * from the child, where wipe_in_child() maps fresh memory.
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

/* The kernel hears it part by part, in the order of addresses; see ops_discard.c. */
static long advise_parts(uint64_t start, uint64_t end, int advice) NEEDS(as.lock)
{
	long gap = 0;

	while (start < end) {
		uint64_t run = start, run_end = end;
		int say = advice;
		long err;

		if (!as_frames_next(&run, &run_end, end)) {
			run = end;
		} else if (run == start) {
			const struct as_range *r = as_range_at(start);

			run = r ? u64_min(r->end, run_end) : run_end;
			say = advice_on_frames(advice, r ? r->left_out : 0);
		}
		err = sysc3(SYS_madvise, start, run - start, say);
		if (err == -ENOMEM)
			gap = err;
		else if (err)
			return err;
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

static bool is_known(uint64_t start, uint64_t end)
{
	struct as_guard g;
	bool known;

	ops_enter(&g);
	known = as_knows(start, end);
	as_leave(&g);
	return known;
}

static long advise(void *addr, size_t len, int advice)
{
	uint64_t start = (uintptr_t)addr, end = page_up(start + len);
	bool undo;
	int why;

	if (advice == MADV_MERGEABLE || advice == MADV_UNMERGEABLE) {
		if (start % KSM_PAGE_SIZE || end < start || (len && end == start))
			return -EINVAL;
		if (!len)
			return 0;
		return advice == MADV_MERGEABLE ? offer(start, end) : withdraw(start, end);
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
	if (advice == MADV_REMOVE && is_known(start, end))
		return -EINVAL; /* as on anonymous memory */
	return sysc3(SYS_madvise, addr, len, advice);
}

static bool respect_dontdump; /* set once, before there are threads */

void ksmc_respect_dontdump(void)
{
	respect_dontdump = true;
}

/*
 * Programs keep what is secret out of core dumps. Where the user asks for it such memory is not
 * merged either: it is un-shared before the kernel hears the advice, so nothing of it is shared
 * once the program goes on.
 */
static long advise_dump(void *addr, size_t len, int advice)
{
	long r = advice == MADV_DONTDUMP ? ksmc_exclude(addr, len, KSM_LEFT_EXCLUDED) : 0;

	if (!r)
		r = advise(addr, len, advice);
	if (!r && advice == MADV_DODUMP)
		ksmc_include(addr, len, KSM_LEFT_EXCLUDED);
	return r;
}

long ksmc_madvise(void *addr, size_t len, int advice)
{
	if (respect_dontdump && len && (advice == MADV_DONTDUMP || advice == MADV_DODUMP))
		return advise_dump(addr, len, advice);
	return advise(addr, len, advice);
}
