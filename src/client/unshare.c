/* SPDX-License-Identifier: MIT */
/*
 * unshare.c - give memory that stands on frames back as private anonymous memory.
 *
 * For each run the agent write-protects it in the synchronous userfaultfd, so that writers wait;
 * sees which pages are still frames; copies these into fresh anonymous memory; puts that over the
 * run with mremap(MREMAP_FIXED); and wakes the writers. The contents are present at every instant,
 * so readers never wait and a fork at any moment is safe. Pages that broke copy-on-write are
 * private already and may be pinned for DMA: they stay where they are, anonymous pages in a file
 * mapping, and their frame bit stays set.
 *
 * A range that cannot be written needs no write-protection: its frames cannot break meanwhile.
 */
#include "client/unshare.h"

#include <errno.h>
#include <sys/mman.h>

#include "client/as.h"
#include "client/hold.h"
#include "client/io.h"
#include "client/sysc.h"
#include "client/uffd.h"
#include "wire/kernel_abi.h"

/*
 * Move the copy over the frames. A move that fails for want of kernel memory may have taken away
 * what stood there (mend_hole() in txn.c). Then the copy is all there is of the contents, so the
 * agent tries until it succeeds. Where something still stands, it gives up and returns -errno.
 */
static long move_over(long from, size_t len, uint64_t to)
{
	long r;

	for (;;) {
		r = sysc5(SYS_mremap, from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to);
		if (!sysc_failed(r))
			return 0;
		if (sysc3(SYS_msync, to, len, MS_ASYNC) != -ENOMEM)
			return r;
		sysc0(SYS_sched_yield);
	}
}

/*
 * Copy a run of frames into fresh memory and put that in their place. left_out says why the run is
 * left alone, if it is: where the program asked to keep it from children, or to have it wiped
 * there, that holds for the fresh memory, too.
 */
static int replace(const struct kit *k, uint64_t start, uint64_t end, int prot, uint16_t left_out)
	NEEDS(as.lock)
{
	size_t len = end - start;
	long m = sysc6(SYS_mmap, 0, (long)len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);
	long r;

	if (sysc_failed(m))
		return -ENOMEM;
	/* /proc/self/mem reads what the program may not (PROT_NONE) and cannot fault. */
	r = io_pread_all(k->mem, (void *)m, len, start) ? 0 : -ENOMEM;
	if (!r && prot != (PROT_READ | PROT_WRITE))
		r = sysc3(SYS_mprotect, m, len, prot);
	as_repeat_advice((uint64_t)m, (uint64_t)m + len, left_out);
	if (!r)
		r = move_over(m, len, start);
	if (r) {
		sysc2(SYS_munmap, m, len);
		return -ENOMEM;
	}
	as_frames_clear(start, end);
	return 0;
}

/* Replace what is not private in [start, end): frames, touched or not. It is held (hold.h). */
static int replace_frames(const struct kit *k, uint64_t start, uint64_t end, int prot,
			  uint16_t left_out) NEEDS(as.lock)
{
	struct kabi_page_region v[HOLD_MAX_PAGES];
	long n = hold_private(k, start, end, v);
	uint64_t at = start;
	int err = n < 0 ? -ENOMEM : 0;

	for (long i = 0; i <= n && !err; i++) {
		uint64_t stop = i < n ? v[i].start : end;

		if (stop > at)
			err = replace(k, at, stop, prot, left_out);
		at = i < n ? v[i].end : end;
	}
	return err;
}

/* Replace one run. `all`: private pages as well, as far as that is safe (hold.c). */
static int unshare_step(const struct kit *k, uint64_t start, uint64_t end, int prot,
			uint16_t left_out, bool all) NEEDS(as.lock)
{
	bool writable = prot & PROT_WRITE;
	int err = writable ? hold_begin(k, start, end) : 0;

	if (!err && all && !hold_may_be_pinned(k))
		err = replace(k, start, end, prot, left_out);
	else if (!err)
		err = replace_frames(k, start, end, prot, left_out);
	if (writable)
		hold_end(k, start, end);
	uffd_track(k, start, end);
	return err;
}

/*
 * With no userfaultfd (no daemon since this process was forked), have the kernel break the
 * sharing.
 */
static int populate_write(uint64_t start, uint64_t end, int prot)
{
	long r;

	if (!(prot & PROT_WRITE))
		sysc3(SYS_mprotect, start, end - start, PROT_READ | PROT_WRITE);
	do
		r = sysc3(SYS_madvise, start, end - start, MADV_POPULATE_WRITE);
	while (r == -EINTR || r == -EAGAIN);
	if (!(prot & PROT_WRITE))
		sysc3(SYS_mprotect, start, end - start, prot);
	return r == -ENOMEM ? -ENOMEM : 0;
}

static int unshare_steps(const struct kit *k, uint64_t start, uint64_t end, bool all)
{
	int err = 0;

	while (!err) {
		uint64_t run_end;
		size_t i;
		uint16_t left_out = 0;
		int prot;

		as_agent_lock();
		if (!as_frames_next(&start, &run_end, end)) {
			as_unlock();
			break;
		}
		if (run_end > start + HOLD_MAX_PAGES * KSM_PAGE_SIZE)
			run_end = start + HOLD_MAX_PAGES * KSM_PAGE_SIZE;
		i = as_find(start);
		prot = PROT_READ | PROT_WRITE;
		if (i < as.nr && as.range[i].start <= start) {
			prot = as.range[i].prot;
			left_out = as.range[i].left_out;
			if (run_end > as.range[i].end)
				run_end = as.range[i].end;
		}
		if (k->uffd_sync >= 0 && k->mem >= 0)
			err = unshare_step(k, start, run_end, prot, left_out, all);
		else
			err = populate_write(start, run_end, prot);
		if (all && !err) /* frames that are still there must not be forgotten */
			as_event(KSM_MSG_FORGET, start, run_end);
		as_unlock();
		start = run_end;
	}
	return err;
}

int unshare_range(const struct kit *k, uint64_t start, uint64_t end)
{
	return unshare_steps(k, start, end, false);
}

int unshare_mapping(const struct kit *k, uint64_t start, uint64_t end)
{
	return unshare_steps(k, start, end, true);
}
