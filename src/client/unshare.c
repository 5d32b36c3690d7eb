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
 *
 * Over sealed memory nothing can be moved, and where the process has no mappings left nothing can
 * be put between. There each page is written in place, which gives it a
 * private copy in the mapping of frames, as if the program had written to it.
 */
#include "client/unshare.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/span.h"
#include "client/as.h"
#include "client/as_frames.h"
#include "client/as_queue.h"
#include "client/as_ranges.h"
#include "client/aside.h"
#include "client/changed.h"
#include "client/hold.h"
#include "client/io.h"
#include "client/leaving.h"
#include "client/sysc.h"
#include "client/uffd.h"
#include "wire/kernel_abi.h"

#define LEAVING_MS 100 /* for threads that are about to end */
#define CHANGED 1      /* some of a run stood on no frames, and is known no more (changed.h) */
#define FEW_PRIVATE 4  /* pieces of private memory in a run that may stay where they are */

/* A run of frames in one range of as.h, at most HOLD_MAX_PAGES long. */
struct step {
	struct span run;
	struct as_range of; /* a copy of the range; of none: memory that can be read and written */
};

/* Find the first step in `rest`. False: nothing there stands on a frame. */
static bool next_step(struct span rest, struct step *st) NEEDS(as.lock)
{
	struct span *run = &st->run;
	const struct as_range *r;

	*st = (struct step){ .run = rest, .of.prot = PROT_READ | PROT_WRITE };
	if (!as_frames_next(&run->start, &run->end, rest.end))
		return false;
	run->end = u64_min(run->end, run->start + HOLD_MAX_PAGES * KSM_PAGE_SIZE);
	r = as_range_at(run->start);
	if (r) {
		st->of = *r;
		run->end = u64_min(run->end, r->end);
	}
	return true;
}

/* Copy a part of the step's frames into fresh memory and put that in their place. */
static int replace(const struct kit *k, struct span part, const struct step *st) NEEDS(as.lock)
{
	size_t len = span_len(part);
	long m = aside_zeros(len, &st->of);
	long r;

	if (sysc_failed(m))
		return -ENOMEM;
	/* /proc/self/mem reads what the program may not (PROT_NONE) and cannot fault. */
	r = io_pread_all(k->mem, (void *)m, len, part.start) ? 0 : -ENOMEM;
	if (!r && st->of.prot != (PROT_READ | PROT_WRITE))
		r = sysc3(SYS_mprotect, m, len, st->of.prot);
	if (!r)
		r = aside_move((uint64_t)m, len, part.start);
	if (r) {
		sysc2(SYS_munmap, m, len);
		return r == -EPERM ? -EPERM : -ENOMEM;
	}
	as_frames_clear(part.start, part.end);
	return 0;
}

/*
 * Replace what is not private in the run: frames, touched or not. It is held (hold.h). Many private
 * pages between frames would cost two mappings each if they stayed, which the process may not have.
 */
static int replace_frames(const struct kit *k, const struct step *st) NEEDS(as.lock)
{
	struct kabi_page_region v[HOLD_MAX_PAGES];
	long n = hold_private(k, st->run.start, st->run.end, v);
	uint64_t at = st->run.start;
	int err = n < 0 ? -ENOMEM : 0;

	if (n > FEW_PRIVATE && !hold_may_be_pinned(k))
		return replace(k, st->run, st);
	for (long i = 0; i <= n && !err; i++) {
		struct span part = { at, i < n ? v[i].start : st->run.end };

		if (!span_empty(part))
			err = replace(k, part, st);
		at = i < n ? v[i].end : st->run.end;
	}
	return err;
}

/*
 * Have the kernel break the sharing: the memory is sealed, or there is no userfaultfd (no daemon
 * since this process was forked).
 */
static int populate_write(const struct step *st)
{
	uint64_t start = st->run.start;
	size_t len = span_len(st->run);
	bool writable = st->of.prot & PROT_WRITE;
	long r;

	if (!writable)
		sysc3(SYS_mprotect, start, len, PROT_READ | PROT_WRITE);
	do
		r = sysc3(SYS_madvise, start, len, MADV_POPULATE_WRITE);
	while (r == -EINTR || r == -EAGAIN);
	if (!writable)
		sysc3(SYS_mprotect, start, len, st->of.prot);
	return r == -ENOMEM ? -ENOMEM : 0;
}

/*
 * The same in sealed memory that the program cannot write, so that nobody writes meanwhile:
 * /proc/self/mem writes what it reads.
 */
static int write_by_force(const struct kit *k, const struct step *st)
{
	long fd = sysc4(SYS_openat, AT_FDCWD, "/proc/self/mem", O_RDWR | O_CLOEXEC, 0);
	bool ok = fd >= 0 && k->buf;

	for (uint64_t at = st->run.start; ok && at < st->run.end; at += KSM_PAGE_SIZE)
		ok = io_pread_all((int)fd, k->buf, KSM_PAGE_SIZE, at) &&
		     sysc4(SYS_pwrite64, fd, k->buf, KSM_PAGE_SIZE, at) == KSM_PAGE_SIZE;
	if (fd >= 0)
		sysc1(SYS_close, fd);
	return ok ? 0 : -ENOMEM;
}

/* Un-share one run. `all`: private pages leave the mapping as well, as far as that is safe. */
static int unshare_step(const struct kit *k, const struct step *st, bool all) NEEDS(as.lock)
{
	bool writable = st->of.prot & PROT_WRITE;
	int err;

	if (!changed_look(k, st->run.start, st->run.end))
		return CHANGED;
	err = writable ? hold_begin(k, st->run.start, st->run.end) : 0;
	/* A userfaultfd of the program wants anonymous memory. */
	all |= (st->of.left_out & 1u << KSM_LEFT_UFFD) != 0;
	if (!err && all && !hold_may_be_pinned(k))
		err = replace(k, st->run, st);
	else if (!err)
		err = replace_frames(k, st);
	if (writable)
		hold_end(k, st->run.start, st->run.end);
	if (err && !changed_ask(k, st->run.start, st->run.end))
		return CHANGED;
	if (err == -EPERM)
		err = writable ? populate_write(st) : write_by_force(k, st);
	else if (err == -ENOMEM && writable)
		err = populate_write(st); /* there may be memory, and no mapping to be had */
	uffd_track(k, st->run.start, st->run.end);
	return err;
}

/* Cut the step to what there is room for. False: nothing. */
static bool fit(struct step *st, struct headroom *room)
{
	if (room)
		st->run.end = st->run.start + headroom_take(room, span_len(st->run));
	return !span_empty(st->run);
}

/*
 * The lock is given back after each step, so that a wrapper waits for one step at most. (A thread
 * that hangs at its end may hang for the caller.)
 */
static int unshare_steps(const struct kit *k, struct span rest, bool all, struct headroom *room)
{
	struct step st;
	bool more = true;
	int err = 0;

	while (more && !err) {
		leaving_lock(LEAVING_MS);
		more = next_step(rest, &st);
		if (more && !fit(&st, room)) {
			as_unlock();
			err = headroom_look(room) ? 0 : -ENOMEM;
			continue;
		}
		if (more && k->uffd_sync >= 0 && k->mem >= 0)
			err = unshare_step(k, &st, all);
		else if (more)
			err = populate_write(&st);
		if (err == CHANGED) {
			as_unlock();
			err = 0;
			continue;
		}
		/* Frames that still stand are not forgotten; of others the daemon has heard. */
		if (more && all && !err && st.of.flags & AS_WANTED)
			as_event(KSM_MSG_FORGET, st.run.start, st.run.end);
		as_unlock();
		rest.start = st.run.end;
	}
	return err;
}

int unshare_range(const struct kit *k, uint64_t start, uint64_t end, struct headroom *room)
{
	int err = unshare_steps(k, (struct span){ start, end }, false, room);

	as_agent_lock();
	uffd_give_way(k, start, end);
	as_unlock();
	return err;
}

int unshare_mapping(const struct kit *k, uint64_t start, uint64_t end, struct headroom *room)
{
	return unshare_steps(k, (struct span){ start, end }, true, room);
}

/* The first frames in *rest that are not offered; *rest is what lies behind. False: none. */
static bool next_withdrawn(struct span *rest, struct span *part)
{
	bool found = false;

	as_agent_lock();
	while (!found && as_frames_next(&rest->start, &part->end, rest->end)) {
		const struct as_range *r = as_range_at(rest->start);

		*part = (struct span){ rest->start, part->end };
		part->end = r ? u64_min(part->end, r->end) : part->end;
		found = !r || !(r->flags & AS_WANTED);
		rest->start = part->end;
	}
	as_unlock();
	return found;
}

void unshare_withdrawn(const struct kit *k)
{
	struct headroom room = { 0 };
	struct span rest, part;
	int err = 0;

	as_agent_lock();
	rest = (struct span){ as.withdrawn_start, as.withdrawn_end };
	as.withdrawn_start = as.withdrawn_end = 0;
	as_unlock();
	while (!err && !span_empty(rest) && next_withdrawn(&rest, &part))
		err = unshare_mapping(k, part.start, part.end, &room);
}
