/* SPDX-License-Identifier: MIT */
/*
 * txn.c - a merge transaction: replace pages by frames of equal content, losing nothing.
 *
 * For each stretch of eligible pages of the order the agent does this:
 *  1. It leaves change tracking and registers the stretch in the synchronous userfaultfd
 *     (MISSING).
 *  2. For each chunk of the stretch, some runs of pages whose frames are neighbours, too, it
 *     a. maps the frames at an address of their own and populates them; those of short runs it
 *        reads, and they are populated when nobody waits any more (aside.c).
 *     b. UFFDIO_MOVE takes the pages to the staging area. From here threads that touch them wait.
 *        The kernel refuses a page that is pinned for DMA, or was shared by a fork, with EBUSY; of
 *        the latter exclusive.c makes some movable, and then they are tried again.
 *     c. The agent compares them with the frames, byte for byte. Nobody can change the pages now,
 *        because they are mapped nowhere else; and frames never change.
 *     d. Where they are equal it moves the mapping of the frames over the pages. Pages of zeros
 *        that the daemon wants gone need none: the hole reads as zeros. Where they differ it moves
 *        the page back. Then it wakes the threads, to which the next chunk is nothing.
 *  3. It serves forks, leaves the userfaultfd, and wakes the waiting threads.
 *  4. It registers for tracking again, and drops the staging pages.
 *
 * A stretch may have small gaps of pages that are not in the order. Leaving and joining
 * userfaultfds splits and joins mappings and costs 7 us a stretch. Pages in the gap are taken for
 * written afterwards and hashed again, which costs 1 us each.
 *
 * Pages that lie in a mapping of frames already cannot be moved: inplace.c.
 *
 * Every step that fails leads back: a page is moved back unless its frame is mapped. Where that
 * fails for want of memory the agent repeats it until it succeeds. Where the mapping has changed
 * meanwhile it copies the page. It never gives a page up. While it holds the lock of as.h no
 * wrapper changes the address space.
 *
 * What was rejected: write-protecting instead of moving. Readers would not wait, but a page whose
 * DMA is in flight would be replaced, and there is no other way to ask the kernel for pins.
 */
#include "client/txn.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/span.h"
#include "client/as.h"
#include "client/as_advice.h"
#include "client/as_frames.h"
#include "client/as_ranges.h"
#include "client/aside.h"
#include "client/exclusive.h"
#include "client/inplace.h"
#include "client/io.h"
#include "client/leaving.h"
#include "client/mend.h"
#include "client/pageset.h"
#include "client/staging.h"
#include "client/sysc.h"
#include "client/uffd.h"
#include "wire/kernel_abi.h"

#define CHUNK_RUNS 16u  /* some 100 us where each needs a mapping */
#define MAX_GAP 4u      /* pages; see above */
#define MOVE_TRIES 16   /* of a page that is locked, or of which a fork is being announced */
#define LEAVING_MS 2    /* for threads that are about to end; the daemon asks again */
#define COPY_TRIES 1000 /* of a page that nothing known keeps from going back */

/*
 * A stretch that is being replaced: pages [from, to) of the block, and sets of them, bit per page
 * of the block. Invariants: moved is part of order; mapped and dropped are disjoint parts of
 * moved; bare is part of mapped. What is moved and neither mapped nor dropped has to go back.
 */
struct stretch {
	const struct kit *k;
	const struct ksm_msg_order *m;
	struct aside_sheet *sheet; /* of the order */
	uint8_t *result;           /* of every page of the order */
	unsigned int from, to;
	uint64_t order;   /* to be replaced */
	uint64_t moved;   /* out, in the staging area */
	uint64_t mapped;  /* replaced by frames */
	uint64_t bare;    /* mapped, and without page tables so far */
	uint64_t dropped; /* zeros, given back */
};

/* Which pages of the order may be replaced now; *in_frames: those in frame mappings already. */
static uint64_t eligible(const struct ksm_msg_order *m, uint64_t *in_frames) NEEDS(as.lock)
{
	uint64_t mask = 0;
	size_t r = as_find(m->addr);

	for (unsigned int i = 0; i < KSM_ORDER_PAGES; i++) {
		uint64_t a = order_page(m, i);

		if (m->frame[i] == KSM_FRAME_NONE)
			continue;
		while (r < as.nr && as.range[r].end <= a)
			r++;
		if (r == as.nr)
			break;
		if (as.range[r].start <= a && as_offered(&as.range[r]) &&
		    as.range[r].prot == (PROT_READ | PROT_WRITE)) {
			mask |= pageset_bit(i);
			if (as_frame_bit(a))
				*in_frames |= pageset_bit(i);
		}
	}
	return mask;
}

static uint8_t res_of_errno(long err)
{
	switch (err) {
	case -EBUSY:
		return KSM_RES_BUSY;
	case -ENOMEM:
		return KSM_RES_NOMEM;
	default: /* ENOENT: a hole; EINVAL: mlocked, other protection key */
		return KSM_RES_GONE;
	}
}

/* Move pages [from, to) of the block out; pages that refuse get their result and stay. */
static void move_out(struct stretch *st, unsigned int from, unsigned int to) NEEDS(as.lock)
{
	unsigned int i = from;
	int tries = 0;

	while (i < to) {
		uint64_t off = (uint64_t)i * KSM_PAGE_SIZE;
		long r = staging_move(st->k, (uintptr_t)st->k->staging + off, st->m->addr + off,
				      to - i);

		if (r == 0) {
			st->moved |= pageset_range(i, to);
			return;
		}
		st->moved |= staging_pages(st->k) & pageset_range(from, to);
		if (st->moved & pageset_bit(i)) {
			tries = 0;
			while (i < to && (st->moved & pageset_bit(i)))
				i++;
		} else if (r == -EAGAIN && ++tries < MOVE_TRIES) {
			/* A fork is being announced, or the page is locked for a moment. */
			uffd_serve_forks(st->k, st->m->addr, st->moved, st->k->staging);
		} else {
			st->result[i++] = r == -EAGAIN ? KSM_RES_BUSY : res_of_errno(r);
			tries = 0;
		}
	}
}

/*
 * Copy one page back that cannot be moved: the program has asked something of the kernel behind
 * our back since (mlock, mprotect) that makes the two mappings too different. Nobody has the page
 * pinned, and nobody can change it where it is, so a copy is as good. Where there is no memory any
 * more, or other contents stand, the program did that, too; and an answer that nobody foresaw ends
 * the attempt after COPY_TRIES, since there is no place left to which the page belongs.
 */
static void copy_back(struct stretch *st, unsigned int i, int *tries)
{
	uint64_t off = (uint64_t)i * KSM_PAGE_SIZE;
	struct uffdio_copy c = {
		.dst = st->m->addr + off,
		.src = (uintptr_t)st->k->staging + off,
		.len = KSM_PAGE_SIZE,
		.mode = UFFDIO_COPY_MODE_DONTWAKE,
	};
	long r = sysc3(SYS_ioctl, st->k->uffd_sync, UFFDIO_COPY, &c);

	if (sysc_may_pass(r) || (r && r != -ENOENT && r != -EEXIST && ++*tries < COPY_TRIES)) {
		sysc0(SYS_sched_yield); /* not for the moment */
		return;
	}
	*tries = 0;
	sysc3(SYS_madvise, st->k->staging + off, KSM_PAGE_SIZE, MADV_DONTNEED_LOCKED);
	st->moved &= ~pageset_bit(i);
}

static void move_back(struct stretch *st, unsigned int from, unsigned int to) NEEDS(as.lock)
{
	int tries = 0;

	while (from < to) {
		uint64_t off = (uint64_t)from * KSM_PAGE_SIZE;
		long r = staging_move(st->k, st->m->addr + off, (uintptr_t)st->k->staging + off,
				      to - from);
		uint64_t left = r == 0 ? 0 : staging_pages(st->k) & pageset_range(from, to);

		st->moved &= ~pageset_range(from, to) | left;
		if (left & pageset_bit(from)) {
			uffd_serve_forks(st->k, st->m->addr, st->moved, st->k->staging);
			if (sysc_may_pass(r))
				sysc0(SYS_sched_yield);
			else
				copy_back(st, from, &tries);
		}
		while (from < to && !(st->moved & pageset_bit(from)))
			from++;
	}
}

static bool page_is_zero(const uint8_t *p)
{
	return !p[0] && !memcmp(p, p + 1, KSM_PAGE_SIZE - 1);
}

/*
 * Pages [from, to) of the order that are replaced together: by neighbouring frames, which are
 * prepared, or by a hole, as zeros.
 */
struct run {
	unsigned int from, to;
	const uint8_t *bytes; /* contents of the frames; NULL: zeros */
	uint8_t *map;         /* their mapping aside; NULL: they are on the sheet */
};

/*
 * Runs of one stretch whose pages are out at the same time. Threads that touch them wait until all
 * of them are replaced, so there are not many, and what takes long is done before.
 */
struct chunk {
	struct run run[CHUNK_RUNS];
	unsigned int nr;
	uint64_t pages;
};

/* Move the mapping of their frames over pages [i, to), which are equal to them. */
static void map_frames(struct stretch *st, unsigned int i, unsigned int to, uint8_t *aside)
	NEEDS(as.lock)
{
	uint64_t at = order_page(st->m, i);
	size_t len = (size_t)(to - i) * KSM_PAGE_SIZE;
	enum ksm_res res = KSM_RES_NOMEM;
	long r = as_frames_set(at, at + len);

	if (!r) {
		r = aside ? sysc5(SYS_mremap, aside, (long)len, (long)len,
				  MREMAP_MAYMOVE | MREMAP_FIXED, (long)at) :
			    aside_sheet_place(st->sheet, st->m->frame[i], len, at);
		if (sysc_failed(r))
			res = mend_failed_map(st->k, at, len, r);
	}
	if (sysc_failed(r)) {
		as_frames_clear(at, at + len);
		memset(st->result + i, (int)res, to - i);
		return;
	}
	st->mapped |= pageset_range(i, to);
	if (!aside)
		st->bare |= pageset_range(i, to);
	memset(st->result + i, KSM_RES_MERGED, to - i);
}

/* Compare pages [from, to), which were moved, with their frames, and map the equal parts. */
static void map_equal(struct stretch *st, const struct run *r, unsigned int from, unsigned int to)
	NEEDS(as.lock)
{
	for (unsigned int i = from, j; i < to; i = j) {
		size_t off = (size_t)(i - r->from) * KSM_PAGE_SIZE;

		for (j = i; j < to && !memcmp(st->k->staging + (size_t)j * KSM_PAGE_SIZE,
					      r->bytes + (size_t)(j - r->from) * KSM_PAGE_SIZE,
					      KSM_PAGE_SIZE);
		     j++)
			;
		if (j > i)
			map_frames(st, i, j, r->map ? r->map + off : NULL);
		else
			st->result[j++] = KSM_RES_DIFFERENT;
	}
}

/*
 * Unmap what was not moved into place of the frames of a run. Where they were moved away, other
 * threads may have mapped something by now.
 */
static void unmap_rest(const struct stretch *st, const struct run *r)
{
	uint64_t rest = pageset_range(r->from, r->to) & ~st->mapped;

	for (unsigned int i = r->from, j; r->map && pageset_next(rest, &i, &j); i = j)
		sysc2(SYS_munmap, r->map + (size_t)(i - r->from) * KSM_PAGE_SIZE,
		      (long)(j - i) * KSM_PAGE_SIZE);
}

/* Let dumps have what stands on pieces of the sheet. */
static void show_bare(const struct stretch *st) NEEDS(as.lock)
{
	for (unsigned int i = 0, j; pageset_next(st->bare, &i, &j); i = j)
		aside_sheet_show(order_page(st->m, i), order_page(st->m, j));
}

/* Fill their page tables: change tracking takes a page without an entry for written. */
static void fill_bare(const struct stretch *st)
{
	for (unsigned int i = 0, j; pageset_next(st->bare, &i, &j); i = j)
		sysc3(SYS_madvise, order_page(st->m, i), (long)(j - i) * KSM_PAGE_SIZE,
		      MADV_POPULATE_READ);
}

/* Have the frames of a run where they can be compared, and mapped at once. */
static bool prepare(const struct stretch *st, struct run *r) NEEDS(as.lock)
{
	uint32_t first = st->m->frame[r->from];
	size_t len = (size_t)(r->to - r->from) * KSM_PAGE_SIZE;
	uint64_t at = order_page(st->m, r->from);
	uint8_t *buf = st->k->buf + (size_t)r->from * KSM_PAGE_SIZE;

	if (first == KSM_FRAME_ZERO)
		return true;
	if (first + (uint64_t)(r->to - r->from) > st->k->arena_pages)
		return false; /* GONE, as every page of the order is so far */
	if (aside_sheet_has(st->sheet, st->k, first, len, at)) {
		r->bytes = buf;
		return io_pread_all(st->k->arena, buf, len, (uint64_t)first * KSM_PAGE_SIZE);
	}
	r->bytes = r->map = aside_frames(st->k, first, len, at);
	if (!r->map)
		memset(st->result + r->from, KSM_RES_NOMEM, r->to - r->from);
	return r->map;
}

/* Find the next run of the stretch, from page i on. False: there is none. */
static bool next_run(const struct stretch *st, unsigned int i, struct run *r)
{
	const uint32_t *frame = st->m->frame;
	unsigned int j;

	if (!pageset_next(st->order, &i, &j))
		return false;
	*r = (struct run){ .from = i, .to = i + 1 };
	while (r->to < j && frame[r->to] == frame[r->to - 1] + (frame[i] != KSM_FRAME_ZERO))
		r->to++;
	return true;
}

/* Prepare the next runs, from page i on. Returns the page behind them; 0: no page is left. */
static unsigned int next_chunk(const struct stretch *st, unsigned int i, struct chunk *c)
	NEEDS(as.lock)
{
	struct run r;

	c->nr = 0;
	c->pages = 0;
	for (; c->nr < CHUNK_RUNS && next_run(st, i, &r); i = r.to)
		if (prepare(st, &r)) {
			c->run[c->nr++] = r;
			c->pages |= pageset_range(r.from, r.to);
		}
	return c->nr ? i : 0;
}

static void compare_zeros(struct stretch *st, const struct run *r)
{
	for (unsigned int i = r->from; i < r->to; i++) {
		if (!(st->moved & pageset_bit(i)))
			continue;
		if (page_is_zero(st->k->staging + (size_t)i * KSM_PAGE_SIZE)) {
			st->result[i] = KSM_RES_MERGED;
			st->dropped |= pageset_bit(i);
		} else {
			st->result[i] = KSM_RES_DIFFERENT;
		}
	}
}

static void compare_run(struct stretch *st, const struct run *r) NEEDS(as.lock)
{
	uint64_t moved = st->moved & pageset_range(r->from, r->to);

	if (!r->bytes) {
		compare_zeros(st, r);
		return;
	}
	for (unsigned int i = r->from, j; pageset_next(moved, &i, &j); i = j)
		map_equal(st, r, i, j);
	unmap_rest(st, r);
}

/* A child that was made meanwhile gets its copies first. */
static void return_the_rest(struct stretch *st) NEEDS(as.lock)
{
	uint64_t back = st->moved & ~st->mapped & ~st->dropped;

	if (back)
		uffd_serve_forks(st->k, st->m->addr, st->moved, st->k->staging);
	for (unsigned int i = 0, j; pageset_next(back, &i, &j); i = j)
		move_back(st, i, j);
}

static void replace_chunk(struct stretch *st, const struct chunk *c) NEEDS(as.lock)
{
	for (unsigned int i = 0, j; pageset_next(c->pages, &i, &j); i = j)
		move_out(st, i, j);
	for (unsigned int i = 0; i < c->nr; i++)
		compare_run(st, &c->run[i]);
	return_the_rest(st);
}

/*
 * Leave the synchronous userfaultfd where the old mapping still stands, let the waiting threads go
 * on, then track again.
 */
static void resume_tracking(const struct stretch *st, uint64_t start, uint64_t end)
{
	if (st->mapped != pageset_range(st->from, st->to))
		uffd_release(st->k, start, end);
	else
		uffd_wake(st->k->uffd_sync, start, end);
	fill_bare(st);
	uffd_register(st->k->uffd_async, start, end, UFFDIO_REGISTER_MODE_WP);
}

/* Leave pages alone whose memory has a policy that the library did not see being set. */
static void leave_out_policies(struct stretch *st) NEEDS(as.lock)
{
	uint64_t order = st->order;

	if (as_range_at(order_page(st->m, st->from))->flags & AS_POLICY)
		return;
	for (unsigned int i = st->from, j; pageset_next(order, &i, &j); i = j)
		if (as_has_policy(order_page(st->m, i))) {
			st->order &= ~pageset_range(i, j);
			memset(st->result + i, KSM_RES_GONE, j - i);
		}
}

/* Returns 0, or a negative errno when the stretch cannot be registered: then nothing was done. */
static int replace_pages(struct stretch *st) NEEDS(as.lock)
{
	uint64_t start = order_page(st->m, st->from);
	uint64_t end = order_page(st->m, st->to);
	struct chunk c;
	int r;

	uffd_unregister(st->k->uffd_async, start, end);
	r = uffd_register(st->k->uffd_sync, start, end, UFFDIO_REGISTER_MODE_MISSING);
	if (r < 0) {
		uffd_release(st->k, start, end); /* it may have failed half-way */
		uffd_register(st->k->uffd_async, start, end, UFFDIO_REGISTER_MODE_WP);
		return r;
	}
	for (unsigned int i = st->from, next; (next = next_chunk(st, i, &c)); i = next) {
		replace_chunk(st, &c);
		/* Those that wait for these pages need not wait for the next ones, too. */
		if (next < st->to)
			uffd_wake(st->k->uffd_sync, order_page(st->m, i), order_page(st->m, next));
	}
	show_bare(st);
	uffd_serve_forks(st->k, st->m->addr, st->moved, st->k->staging);
	resume_tracking(st, start, end);
	/* For the last forks that saw it registered: threads wait for the event to be read. */
	uffd_serve_forks(st->k, st->m->addr, 0, st->k->staging);
	if (st->moved)
		sysc3(SYS_madvise, st->k->staging + (size_t)st->from * KSM_PAGE_SIZE,
		      (long)(st->to - st->from) * KSM_PAGE_SIZE, MADV_DONTNEED_LOCKED);
	return 0;
}

/* Carry out a stretch, or if it cannot be registered as a whole, each of its runs. */
static void execute_stretch(struct stretch *st) NEEDS(as.lock)
{
	int r;

	leave_out_policies(st);
	r = st->order ? replace_pages(st) : 0;
	if (!r)
		return;
	for (unsigned int i = st->from, j; pageset_next(st->order, &i, &j); i = j) {
		struct stretch one = *st;

		one.from = i;
		one.to = j;
		one.order = pageset_range(i, j);
		/* Something in a gap was in the way, or this run is. */
		if (st->order != pageset_range(st->from, st->to))
			r = replace_pages(&one);
		if (r)
			memset(st->result + i, res_of_errno(r), j - i);
	}
}

/*
 * Extend the stretch from st->from: pages of the mask and small gaps between them, in one known
 * range. A gap has nothing that stands on frames, and nothing that is not ours.
 */
static void find_stretch(struct stretch *st, uint64_t mask) NEEDS(as.lock)
{
	const struct ksm_msg_order *m = st->m;
	size_t r = as_find(order_page(m, st->from));
	uint64_t last = (as.range[r].end - m->addr) / KSM_PAGE_SIZE; /* of the range, exclusive */

	for (unsigned int i = st->from; i < KSM_ORDER_PAGES && i < last; i++) {
		if (mask & pageset_bit(i)) {
			st->order |= pageset_bit(i);
			st->to = i + 1;
		} else if (i - st->to >= MAX_GAP || as_frame_bit(order_page(m, i))) {
			break;
		}
	}
}

/* Replace the pages of the mask, which are private memory. */
static void replace_private(const struct kit *k, const struct ksm_msg_order *m, uint64_t mask,
			    uint8_t *result) NEEDS(as.lock)
{
	struct aside_sheet sheet;

	aside_sheet_begin(&sheet, k, m, mask);
	for (unsigned int i = 0, j; pageset_next(mask, &i, &j); i = j) {
		struct stretch st = { .k = k, .m = m, .sheet = &sheet, .result = result };

		st.from = st.to = i;
		find_stretch(&st, mask);
		execute_stretch(&st);
		j = st.to;
	}
	aside_sheet_end(&sheet);
}

static uint64_t pages_with(const uint8_t *result, enum ksm_res res)
{
	uint64_t set = 0;

	for (unsigned int i = 0; i < KSM_ORDER_PAGES; i++)
		if (result[i] == res)
			set |= pageset_bit(i);
	return set;
}

/* The same, without those that other processes map; some that are refused get another try. */
static void execute_private(const struct kit *k, const struct ksm_msg_order *m, uint64_t mask,
			    uint8_t *result) NEEDS(as.lock)
{
	uint64_t shared = exclusive_shared(k, m, mask), refused;

	mask &= ~shared;
	shared &= ~exclusive_zeros(k, m, shared);
	for (unsigned int i = 0, j; pageset_next(shared, &i, &j); i = j)
		memset(result + i, KSM_RES_FORK_SHARED, j - i);
	if (!mask || !staging_open(k))
		return;
	replace_private(k, m, mask, result);
	refused = mask & pages_with(result, KSM_RES_BUSY);
	refused = exclusive_make(k, m, refused);
	replace_private(k, m, refused, result);
	staging_close(k);
	exclusive_arm(k, m, result);
}

/* Carry out an order that is up to date. Every page of it is KSM_RES_GONE so far. */
static void execute(const struct kit *k, const struct ksm_msg_order *m, uint8_t *result)
	NEEDS(as.lock)
{
	uint64_t in_frames = 0, mask = eligible(m, &in_frames);

	if (mask & ~in_frames)
		execute_private(k, m, mask & ~in_frames, result);
	mask &= in_frames;
	for (unsigned int i = 0, j; pageset_next(mask, &i, &j); i = j) {
		/* In one range: what the kernel was told of it holds for the whole run. */
		uint64_t end = as_range_at(order_page(m, i))->end;

		j = (unsigned int)u64_min(j, (end - m->addr) / KSM_PAGE_SIZE);
		inplace_execute(k, m, i, j, result);
	}
}

void txn_execute(const struct kit *k, const struct ksm_msg_order *m, uint64_t newest,
		 uint8_t result[KSM_ORDER_PAGES])
{
	bool stale;

	stale = !leaving_lock(LEAVING_MS) || as.nr_events || as.overflow || m->seq != newest;
	for (unsigned int i = 0; i < KSM_ORDER_PAGES; i++)
		result[i] = m->frame[i] == KSM_FRAME_NONE ? KSM_RES_NONE :
			    stale                         ? KSM_RES_STALE :
							    KSM_RES_GONE;
	if (!stale)
		execute(k, m, result);
	as_unlock();
}
