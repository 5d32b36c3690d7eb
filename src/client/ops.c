/* SPDX-License-Identifier: MIT */
/*
 * ops.c - the system calls that change an address space, on memory where frames may stand.
 *
 * A program that mapped plain anonymous memory must see plain anonymous memory, although parts of
 * it are by now private file mappings of frames. Where the kernel treats the two alike (munmap,
 * mprotect, most advice) the call goes straight through and only the tables follow. Where it does
 * not:
 *   MADV_DONTNEED  on a frame would show the frame again: fresh anonymous memory is mapped over,
 *                  but for locked memory, which the kernel refuses.
 *   MADV_FREE      is refused on file mappings: as DONTNEED there.
 *   MADV_GUARD_INSTALL throws the contents away, too: when the guard goes there must be zeros.
 *   MADV_WIPEONFORK, DONTFORK, DONTDUMP: the range is un-shared first and left alone from then on, also
 *                  where it is not known yet. WIPEONFORK is refused on file mappings, in which pages
 *                  that broke copy-on-write still lie: the child gets empty memory there from us.
 *   mremap         cannot cross mappings: remap.c.
 *
 * All of it under the lock (as.h), and the daemon is told afterwards, in order, by the agent.
 */
#include "client/ops.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "client/agent.h"
#include "client/as_advice.h"
#include "client/as_frames.h"
#include "client/as_life.h"
#include "client/as_queue.h"
#include "client/as_ranges.h"
#include "client/mailbox.h"
#include "client/sysc.h"

/*
 * Pages in mappings of frames that the parent wants wiped: the kernel keeps them from the child (see
 * advice_on_frames()), which gets empty memory here. Nothing may have come to stand there yet.
 */
static void wipe_in_child(void) UNCHECKED_LOCKING
{
	uint64_t at, run_end;

	for (size_t i = 0; i < as.nr; i++) {
		const struct as_range *r = &as.range[i];

		if (!(r->left_out & 1u << KSM_LEFT_WIPEONFORK))
			continue;
		for (at = r->start; as_frames_next(&at, &run_end, r->end); at = run_end) {
			long p = sysc6(SYS_mmap, (long)at, (long)(run_end - at), r->prot,
				       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

			if (p == -EEXIST)
				continue; /* the kernel did not hear that advice: inherited */
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

	/* With no daemon nobody empties the queue, and a connection begins by declaring everything. */
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
	as_frames_clear(start, end); /* these outlive a table that was thrown away (as.h) */
	if (!as_knows(start, end))
		return;
	as_clear(start, end);
	as_event(KSM_MSG_DEL, start, end);
}

long ops_empty_frames(uint64_t start, uint64_t end)
{
	uint64_t run_end;

	while (as_frames_next(&start, &run_end, end)) {
		struct as_range r = { .prot = PROT_READ | PROT_WRITE };
		size_t i = as_find(start);

		if (i < as.nr && as.range[i].start <= start) {
			r = as.range[i];
			run_end = run_end < r.end ? run_end : r.end;
		}
		if (!sysc_failed(sysc6(SYS_mmap, (long)start, (long)(run_end - start), r.prot,
				       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0))) {
			as_frames_clear(start, run_end);
			as_event(KSM_MSG_FORGET, start, run_end);
			as_repeat_advice(start, run_end, r.left_out);
		} else if ((r.prot & (PROT_READ | PROT_WRITE)) == (PROT_READ | PROT_WRITE)) {
			/* No mapping to be had: zeros all the same. */
			memset((void *)start, 0, run_end - start);
		} else {
			return -ENOMEM;
		}
		start = run_end;
	}
	return 0;
}
