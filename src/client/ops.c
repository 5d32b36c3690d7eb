/* SPDX-License-Identifier: MIT */
/*
 * ops.c - the ground of the system calls that change an address space where frames may stand.
 *
 * A program that mapped plain anonymous memory must see plain anonymous memory, although parts of
 * it are by now private file mappings of frames. Where the kernel treats the two alike (munmap,
 * mprotect, most advice) the call goes straight through, and only the tables follow. Where it does
 * not, the wrapper makes the difference good:
 *
 *   MADV_DONTNEED  would show the frame again, so fresh anonymous memory is mapped over it. Locked
 *                  memory is the exception, because the kernel refuses it.
 *   MADV_FREE      is refused on file mappings, so the wrapper treats it as MADV_DONTNEED there.
 *   MADV_GUARD_INSTALL  throws the contents away, too: when the guard goes there must be zeros.
 *   MADV_WIPEONFORK  un-shares the range first and leaves it out from then on, also where it was
 *                  not known before. The kernel refuses it on file mappings, in which pages that
 *                  broke copy-on-write still lie: the wrapper keeps them from the child and maps
 *                  empty memory there (wipe_in_child()).
 *   MADV_DONTFORK, DONTDUMP, mbind  are kept in the table: each mapping that takes the place of
 *                  another is told again (as_advice.h).
 *   mremap         cannot cross mappings: ops_remap.c.
 *
 * This is safe because every wrapper holds the lock (as.h) from before its system call until the
 * tables say what it did. The agent tells the daemon afterwards, in the same order.
 */
#include "client/ops.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/span.h"
#include "client/agent.h"
#include "client/as_advice.h"
#include "client/as_frames.h"
#include "client/as_life.h"
#include "client/as_queue.h"
#include "client/as_ranges.h"
#include "client/aside.h"
#include "client/mailbox.h"
#include "client/sysc.h"

/*
 * Map empty memory where the parent wants mappings of frames wiped; the kernel has kept these from
 * the child (advice_on_frames()). Nothing else may stand there yet.
 */
static void wipe_in_child(void) UNCHECKED_LOCKING
{
	for (const struct as_range *r = as_first(0); r; r = as_next(r)) {
		uint64_t run_end;

		if (!(r->left_out & 1u << KSM_LEFT_WIPEONFORK))
			continue;
		for (uint64_t at = r->start; as_frames_next(&at, &run_end, r->end); at = run_end) {
			long p = sysc6(SYS_mmap, (long)at, (long)(run_end - at), r->prot,
				       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

			if (p == -EEXIST)
				continue; /* inherited: the kernel did not hear that advice */
			as_frames_clear(at, run_end);
			if (!sysc_failed(p))
				sysc3(SYS_madvise, at, run_end - at, MADV_WIPEONFORK);
		}
	}
}

void ops_start_over(bool raw) UNCHECKED_LOCKING
{
	as_reset_child();
	wipe_in_child();
	agent_reset_child(raw);
}

void ops_enter(struct as_guard *g)
{
	if (as_is_orphan())
		ops_start_over(true);
	as_enter(g);
}

int ops_leave(struct as_guard *g, bool offered)
{
	int r = 0;
	/* Without a daemon nobody empties the queue. A connection declares everything at first. */
	bool events = (as.nr_events || as.overflow) && mailbox_connected();

	as_leave(g);
	if (offered)
		r = agent_start(false);
	if (events)
		mailbox_poke();
	return r == -ENOMEM ? r : 0;
}

void ops_forget(uint64_t start, uint64_t end)
{
	as_frames_clear(start, end); /* the bits outlive a table that was thrown away (as.h, f) */
	if (!as_knows(start, end))
		return;
	as_clear(start, end);
	as_event(KSM_MSG_DEL, start, end);
}

/*
 * Map zeros over [start, start + len), a part of r. Returns 0, -ENOMEM (the kernel has no mapping
 * to give) or -EPERM (it is sealed).
 */
static long map_zeros(uint64_t start, uint64_t len, const struct as_range *r) NEEDS(as.lock)
{
	long p, err;

	if (!as_has_advice(r)) {
		p = sysc6(SYS_mmap, (long)start, (long)len, r->prot,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		return sysc_failed(p) ? p : 0;
	}
	p = aside_zeros(len, r);
	if (sysc_failed(p))
		return p;
	err = sysc3(SYS_mprotect, p, len, r->prot);
	if (!err)
		err = aside_move((uint64_t)p, len, start);
	if (err)
		sysc2(SYS_munmap, p, len);
	return err;
}

long ops_empty_frames(uint64_t start, uint64_t end)
{
	uint64_t run_end;
	long err;

	while (as_frames_next(&start, &run_end, end)) {
		const struct as_range *known = as_range_at(start);
		struct as_range r = { .end = run_end, .prot = PROT_READ | PROT_WRITE };

		if (known)
			r = *known;
		run_end = u64_min(run_end, r.end);
		err = map_zeros(start, run_end - start, &r);
		if (!err) {
			as_frames_clear(start, run_end);
			as_event(KSM_MSG_FORGET, start, run_end);
		} else if ((r.prot & (PROT_READ | PROT_WRITE)) == (PROT_READ | PROT_WRITE)) {
			/* Sealed, or no mapping to be had: the program must see zeros anyway. */
			memset((void *)start, 0, run_end - start);
		} else {
			return err == -EPERM ? err : -ENOMEM;
		}
		start = run_end;
	}
	return 0;
}
