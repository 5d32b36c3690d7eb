/* SPDX-License-Identifier: MIT */
/*
 * ops_advise.c - madvise.
 *
 * MERGEABLE learns the range and offers it; UNMERGEABLE withdraws it. DONTFORK and DONTDUMP go to
 * the kernel, frames or not, and are kept in the table: what takes the place of a mapping is told
 * again (as_advice.h). WIPEONFORK the kernel refuses on frames, so such a range is un-shared and
 * left out. COLLAPSE un-shares the range for as long as it takes. Advice that throws contents away:
 * ops_discard.h. Everything else goes to the kernel.
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

/* A huge page, of x86 and of arm64 with pages of 4 KiB. */
#define HUGE_BYTES ((uint64_t)2 << 20)

static void want(struct as_range *r, long arg)
{
	(void)arg;
	r->flags |= AS_WANTED | AS_ADVISED;
	/* The program's word that no pipe holds the pages any more. */
	r->left_out &= (uint16_t) ~(1u << KSM_LEFT_SPLICED);
}

static long offer(uint64_t start, uint64_t end)
{
	struct learned l = { .span = { start, end }, .end = start, .shared = true };
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

/* What the table keeps of an advice on forks and dumps: flags, and reasons to leave it out. */
struct kept {
	uint16_t flags, left_out;
	bool undo; /* the advice takes them back */
};

/* False: it is another advice. */
static bool keeps(int advice, struct kept *k)
{
	*k = (struct kept){ 0 };
	k->undo = advice == MADV_DOFORK || advice == MADV_KEEPONFORK || advice == MADV_DODUMP;
	switch (advice) {
	case MADV_DONTFORK:
	case MADV_DOFORK:
		k->flags = AS_DONTFORK;
		return true;
	case MADV_DONTDUMP:
	case MADV_DODUMP:
		k->flags = AS_DONTDUMP;
		return true;
	case MADV_WIPEONFORK:
	case MADV_KEEPONFORK:
		k->left_out = 1u << KSM_LEFT_WIPEONFORK;
		return true;
	default:
		return false;
	}
}

/*
 * What the kernel hears of a run of frames in place of `advice`. Memory of a file cannot be wiped
 * on fork, so the kernel keeps it from the child, where wipe_in_child() maps fresh memory. (After
 * un-sharing only pages that broke copy-on-write stand there.)
 */
static int advice_on_frames(int advice, const struct as_range *r) NEEDS(as.lock)
{
	bool dontfork = r && r->flags & AS_DONTFORK;
	bool wipe = r && r->left_out & 1u << KSM_LEFT_WIPEONFORK;

	switch (advice) {
	case MADV_WIPEONFORK:
		return MADV_DONTFORK;
	case MADV_KEEPONFORK:
		return dontfork ? MADV_NORMAL : MADV_DOFORK;
	case MADV_DOFORK:
		return wipe ? MADV_NORMAL : MADV_DOFORK;
	case MADV_DODUMP:
		return as.hide_frames ? MADV_NORMAL : MADV_DODUMP;
	default:
		return advice;
	}
}

static void keep_flags(struct as_range *r, long flags)
{
	r->flags |= (uint16_t)flags;
}

static void drop_flags(struct as_range *r, long flags)
{
	r->flags &= (uint16_t)~flags;
}

/*
 * The kernel refused a part, and did the mappings before the one that it minded. So it is asked
 * again page by page, up to a page that it refuses. Returns where that is; *err is 0 if nowhere.
 */
static uint64_t advise_pages(uint64_t start, uint64_t end, int say, long *err)
{
	for (*err = 0; start < end; start += KSM_PAGE_SIZE) {
		*err = sysc3(SYS_madvise, start, KSM_PAGE_SIZE, say);
		if (*err && *err != -ENOMEM)
			return start;
	}
	*err = 0;
	return end;
}

/* The end of the part of [start, end) that hears the same; *say: what in place of `advice`. */
static uint64_t same_part(uint64_t start, uint64_t end, int advice, int *say) NEEDS(as.lock)
{
	uint64_t run = start, run_end = end;
	const struct as_range *r;

	*say = advice;
	if (!as_frames_next(&run, &run_end, end))
		return end;
	if (run > start)
		return run;
	r = as_range_at(start);
	*say = advice_on_frames(advice, r);
	return r ? u64_min(r->end, run_end) : run_end;
}

/* The kernel hears it part by part, in the order of addresses, and the table what it did. */
static long advise_parts(uint64_t start, uint64_t end, int advice, const struct kept *k)
	NEEDS(as.lock)
{
	long gap = 0, err = 0;

	for (uint64_t stop; start < end && !err; start = stop) {
		int say;

		if (as_reserve(2) < 0)
			return -ENOMEM;
		stop = same_part(start, end, advice, &say);
		err = sysc3(SYS_madvise, start, stop - start, say);
		if (err == -ENOMEM) {
			gap = err;
			err = 0;
		} else if (err) {
			stop = advise_pages(start, stop, say, &err);
		}
		if (stop > start)
			as_edit(start, stop, k->undo ? drop_flags : keep_flags, k->flags);
	}
	return err ? err : gap;
}

/* DONTFORK, WIPEONFORK, DONTDUMP and their opposites. */
static long advise_forks(uint64_t start, uint64_t end, int advice, const struct kept *k)
{
	struct learned l = { .span = { start, end }, .end = start };
	struct as_guard g;
	long r = 0;

	if (!k->undo && k->left_out)
		r = ksmc_exclude((void *)start, end - start, KSM_LEFT_WIPEONFORK);
	if (r)
		return r;
	if (k->undo && !atomic_load_explicit(&as.active, memory_order_relaxed))
		return sysc3(SYS_madvise, start, end - start, advice);
	if (ksmc_init() < 0)
		return -ENOMEM;
	ops_enter(&g);
	if (!k->undo)
		ops_learn(&l); /* it holds for memory that is offered later, too */
	r = l.nomem ? -ENOMEM : advise_parts(start, end, advice, k);
	ops_leave(&g, false);
	if (k->undo && k->left_out && !r)
		ksmc_include((void *)start, end - start, KSM_LEFT_WIPEONFORK);
	return r;
}

static void lend(struct as_range *r, long why)
{
	if (!(r->left_out & 1u << why))
		r->flags |= AS_LENT;
}

static void take_back(struct as_range *r, long why)
{
	if (r->flags & AS_LENT)
		r->left_out &= (uint16_t) ~(1u << why);
	r->flags &= (uint16_t)~AS_LENT;
}

/*
 * The kernel would make huge pages of the arena where frames stand, which are everybody's, and none
 * where changes are tracked. So the range stands on no frame and is not tracked while the kernel
 * looks at it, as if the program had a userfaultfd there. Without memory for the table the range
 * stays out.
 */
static long collapse(uint64_t start, uint64_t end)
{
	const long why = KSM_LEFT_UFFD;
	struct as_guard g;
	long r;

	/* The kernel refuses what no huge page lies in, or has nothing to do there. */
	if (end - start < HUGE_BYTES)
		return sysc3(SYS_madvise, start, end - start, KABI_MADV_COLLAPSE);
	ops_enter(&g);
	r = as_knows(start, end) ? as_edit(start, end, lend, why) : 1;
	as_leave(&g);
	if (r == 0)
		r = ops_withdraw(start, end, (int)why);
	if (r < 0)
		return -ENOMEM;
	r = sysc3(SYS_madvise, start, end - start, KABI_MADV_COLLAPSE);
	ops_enter(&g);
	as_edit(start, end, take_back, why);
	if (as_knows(start, end))
		as_event(KSM_MSG_ADD, start, end);
	ops_leave(&g, false);
	return r;
}

/* Is any of it known, and private memory? */
static bool is_private(uint64_t start, uint64_t end)
{
	struct as_guard g;
	bool known;

	ops_enter(&g);
	known = as_knows(start, end) && !(as_first(start)->left_out & 1u << KSM_LEFT_SHARED);
	as_leave(&g);
	return known;
}

static long advise(void *addr, size_t len, int advice)
{
	uint64_t start = (uintptr_t)addr, end = page_up(start + len);
	struct kept k;

	if (advice == MADV_MERGEABLE || advice == MADV_UNMERGEABLE) {
		if (start % KSM_PAGE_SIZE || end < start || (len && end == start))
			return -EINVAL;
		if (!len)
			return 0;
		return advice == MADV_MERGEABLE ? offer(start, end) : withdraw(start, end);
	}
	if (start % KSM_PAGE_SIZE || end <= start)
		return sysc3(SYS_madvise, addr, len, advice);
	if (keeps(advice, &k))
		return advise_forks(start, end, advice, &k);
	if (!atomic_load_explicit(&as.active, memory_order_relaxed))
		return sysc3(SYS_madvise, addr, len, advice);
	if (advice == MADV_DONTNEED || advice == MADV_DONTNEED_LOCKED || advice == MADV_FREE ||
	    advice == MADV_GUARD_INSTALL)
		return ops_discard(start, end, advice);
	if (advice == KABI_MADV_COLLAPSE)
		return collapse(start, end);
	if (advice == MADV_REMOVE && is_private(start, end))
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
