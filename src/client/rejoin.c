/* SPDX-License-Identifier: MIT */
/*
 * rejoin.c - see rejoin.h.
 *
 * A program that begins to fork often gives mappings back (GIVE_BACK). Where its frames alternate
 * with private pages, private memory in the place of the frames alone would leave as many mappings
 * as there were, because the kernel joins none whose anon_vma differs. So the pages between the
 * frames go along: all of them come to lie in one new mapping.
 *
 * The agent has the range in the synchronous userfaultfd meanwhile. Frames are write-protected, so
 * that writers wait; they never change. Private pages it moves to the staging area, where nobody
 * can change them, and whoever comes to one waits. UFFDIO_MOVE is also what tells that no device
 * has them pinned, and that their protection and locks are what the table says (changed.c). Then it
 * copies both into memory made aside, and moves that over the range in one step. Whatever fails
 * before leads back: the pages return to where they were.
 *
 * UFFDIO_MOVE refuses pages that a fork has shared. In a program that forks often those are nearly
 * all, also when the child has ended; the kernel makes them exclusive by a write fault that copies
 * nothing (exclusive.c). Where a child still has them the range stays as it is: to copy them would
 * take memory that the fork had saved.
 *
 * Pages that broke copy-on-write lie in the mapping of the frames, where the kernel has no test for
 * pins. They are copied as frames are, in a process without means of pinning (hold.h).
 */
#include "client/rejoin.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "client/as.h"
#include "client/as_advice.h"
#include "client/as_frames.h"
#include "client/as_queue.h"
#include "client/as_ranges.h"
#include "client/aside.h"
#include "client/changed.h"
#include "client/exclusive.h"
#include "client/hold.h"
#include "client/io.h"
#include "client/leaving.h"
#include "client/pageset.h"
#include "client/staging.h"
#include "client/sysc.h"
#include "client/uffd.h"
#include "wire/kernel_abi.h"

#define LEAVING_MS 2  /* for threads that are about to end; the daemon asks again */
#define MOVE_TRIES 16 /* of a page that is locked, or of which a fork is being announced */

/*
 * Pages [from, to) of the block. Invariant: frames, private and what is in neither, which is
 * nothing but holes, are all of them; moved is part of private, and in the staging area.
 */
struct whole {
	const struct kit *k;
	struct as_range of; /* a copy of the range that has them */
	uint64_t block;
	unsigned int from, to;
	uint64_t frames; /* pages in mappings of frames */
	uint64_t private;
	uint64_t moved;
};

static uint64_t at(const struct whole *w, unsigned int i)
{
	return w->block + i * (uint64_t)KSM_PAGE_SIZE;
}

/* May the range be touched at all? Fills in the range and which pages are whose. */
static bool look(struct whole *w) NEEDS(as.lock)
{
	const struct as_range *r = as_range_at(at(w, w->from));

	if (!r || r->end < at(w, w->to) || !as_offered(r) || r->prot != (PROT_READ | PROT_WRITE) ||
	    !changed_look(w->k, at(w, w->from), at(w, w->to)))
		return false;
	w->of = *r;
	for (unsigned int i = w->from; i < w->to; i++)
		if (as_frame_bit(at(w, i)))
			w->frames |= pageset_bit(i);
	if (!w->frames)
		return false; /* they have gone meanwhile */
	w->private = pageset_range(w->from, w->to) & ~w->frames;
	/* A policy that the library did not see being set would be lost. */
	for (unsigned int i = 0, j; !(r->flags & AS_POLICY) && pageset_next(w->private, &i, &j);
	     i = j)
		if (as_has_policy(at(w, i)))
			return false;
	return true;
}

/* Make pages that forks have left shared this process's own. False: other processes map some. */
static bool make_exclusive(const struct whole *w)
{
	const uint64_t alone = KABI_PM_PRESENT | KABI_PM_EXCLUSIVE;
	const struct ksm_msg_order m = { .addr = w->block };
	uint64_t shared = exclusive_shared(w->k, &m, w->private), entry[KSM_ORDER_PAGES];

	if ((shared & ~exclusive_zeros(w->k, &m, shared)) ||
	    !exclusive_pagemap(w->k, w->block, KSM_ORDER_PAGES, entry))
		return false;
	for (unsigned int i = w->from; i < w->to; i++)
		if ((w->private & pageset_bit(i)) && (entry[i] & alone) == alone &&
		    sysc3(SYS_madvise, at(w, i), KSM_PAGE_SIZE, MADV_POPULATE_WRITE))
			return false;
	return true;
}

/* Threads that come to a private page that is missing wait from now on, and writers to frames. */
static int join(const struct whole *w) NEEDS(as.lock)
{
	uint64_t start = at(w, w->from), end = at(w, w->to);
	long r;

	uffd_unregister(w->k->uffd_async, start, end);
	r = uffd_register(w->k->uffd_sync, start, end,
			  UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP);
	for (unsigned int i = 0, j; !r && pageset_next(w->frames, &i, &j); i = j) {
		struct uffdio_writeprotect wp = {
			.range = { at(w, i), (j - i) * (uint64_t)KSM_PAGE_SIZE },
			.mode = UFFDIO_WRITEPROTECT_MODE_WP,
		};

		while ((r = sysc3(SYS_ioctl, w->k->uffd_sync, UFFDIO_WRITEPROTECT, &wp)) == -EAGAIN)
			uffd_serve_forks(w->k, w->block, 0, w->k->staging);
	}
	return (int)r;
}

/* Move a page out, unless there is none. False: the kernel refuses it. */
static bool move_out(struct whole *w, unsigned int i) NEEDS(as.lock)
{
	uint64_t off = i * (uint64_t)KSM_PAGE_SIZE;
	long r = -EAGAIN;

	for (int tries = 0; r == -EAGAIN && tries < MOVE_TRIES; tries++) {
		r = staging_move(w->k, (uintptr_t)w->k->staging + off, at(w, i), 1);
		if (!r || (staging_pages(w->k) & pageset_bit(i))) {
			w->moved |= pageset_bit(i);
			return true;
		}
		if (r == -EAGAIN)
			uffd_serve_forks(w->k, w->block, w->moved, w->k->staging);
	}
	return r == -ENOENT;
}

static bool is_zero(const uint8_t *p)
{
	return !p[0] && !memcmp(p, p + 1, KSM_PAGE_SIZE - 1);
}

/* Copy everything to its place in new memory, whose page `from` is at p. A hole stays one. */
static bool copy(const struct whole *w, uint8_t *p) NEEDS(as.lock)
{
	for (unsigned int i = 0, j; pageset_next(w->frames, &i, &j); i = j)
		/* /proc/self/mem reads frames that are not in the page tables, and cannot fault. */
		if (!io_pread_all(w->k->mem, p + (i - w->from) * (size_t)KSM_PAGE_SIZE,
				  (j - i) * (size_t)KSM_PAGE_SIZE, at(w, i)))
			return false;
	for (unsigned int i = w->from; i < w->to; i++) {
		const uint8_t *page = w->k->staging + i * (size_t)KSM_PAGE_SIZE;

		if ((w->moved & pageset_bit(i)) && !is_zero(page))
			memcpy(p + (i - w->from) * (size_t)KSM_PAGE_SIZE, page, KSM_PAGE_SIZE);
	}
	return true;
}

/* Do pages that broke copy-on-write lie among the frames, which a device may be writing to? */
static bool any_pinned(const struct whole *w)
{
	struct kabi_page_region v[HOLD_MAX_PAGES];

	return hold_private(w->k, at(w, w->from), at(w, w->to), v) && hold_may_be_pinned(w->k);
}

static int replace(struct whole *w) NEEDS(as.lock)
{
	size_t len = (w->to - w->from) * (size_t)KSM_PAGE_SIZE;
	long p, r;

	for (unsigned int i = w->from; i < w->to; i++)
		if ((w->private & pageset_bit(i)) && !move_out(w, i))
			return -EBUSY;
	if (any_pinned(w))
		return -EBUSY;
	p = aside_zeros(len, &w->of);
	if (sysc_failed(p))
		return -ENOMEM;
	r = copy(w, (uint8_t *)p) ? aside_move((uint64_t)p, len, at(w, w->from)) : -ENOMEM;
	if (r)
		sysc2(SYS_munmap, p, len);
	return r ? -ENOMEM : 0;
}

/* Pages one by one: they may lie in mappings that differ. */
static void lead_back(struct whole *w) NEEDS(as.lock)
{
	for (unsigned int i = w->from; i < w->to; i++)
		if (w->moved & pageset_bit(i))
			staging_return(w->k, w->block, &w->moved, i, i + 1);
	uffd_release(w->k, at(w, w->from), at(w, w->to));
}

static int rejoin_locked(struct whole *w) NEEDS(as.lock)
{
	uint64_t start = at(w, w->from), end = at(w, w->to);
	int err;

	if (!staging_open(w->k))
		return -ENOMEM;
	err = join(w);
	if (!err)
		err = replace(w);
	uffd_serve_forks(w->k, w->block, w->moved, w->k->staging);
	if (err) {
		lead_back(w);
	} else {
		as_frames_clear(start, end);
		as_event(KSM_MSG_FORGET, start, end);
		sysc3(SYS_madvise, w->k->staging, KIT_ORDER_BYTES, MADV_DONTNEED_LOCKED);
		uffd_wake(w->k->uffd_sync, start, end);
	}
	uffd_track(w->k, start, end);
	/* For the last forks that saw it registered: threads wait for the event to be read. */
	uffd_serve_forks(w->k, w->block, 0, w->k->staging);
	staging_close(w->k);
	return err;
}

int rejoin(const struct kit *k, uint64_t block, unsigned int from, unsigned int to,
	   struct headroom *room)
{
	struct whole w = { .k = k, .block = block, .from = from, .to = to };
	uint64_t most = (to - from) * (uint64_t)KSM_PAGE_SIZE;
	int err;

	if (room->credit < most && (!headroom_look(room) || room->credit < most))
		return -ENOMEM;
	if (!leaving_lock(LEAVING_MS))
		err = -EBUSY;
	else if (!look(&w))
		err = -EINVAL;
	else if (!make_exclusive(&w))
		err = -EBUSY;
	else
		err = rejoin_locked(&w);
	as_unlock();
	if (!err)
		headroom_take(room, (uint64_t)__builtin_popcountll(w.frames) * KSM_PAGE_SIZE);
	return err;
}
