/* SPDX-License-Identifier: MIT */
/*
 * replace.c - replace private pages by frames of equal content, losing nothing.
 *
 * Orders for blocks that follow each other are one transaction, because what is done once costs
 * more than to replace eight pages (stretches.c). The agent
 *  1. takes the pages of all, in stretches, out of change tracking and into the synchronous
 *     userfaultfd (MISSING; stretches.c).
 *  2. For each chunk of an order, some runs of pages whose frames are neighbours, too, it
 *     a. maps the frames at an address of their own and populates them; those of short runs it
 *        reads, and they are populated when nobody waits any more (aside.c).
 *     b. UFFDIO_MOVE takes the pages to the staging area. From here threads that touch them wait.
 *        The kernel refuses a page that is pinned for DMA, or was shared by a fork, with EBUSY; of
 *        the latter exclusive.c makes some movable, and then they are tried again.
 *     c. The agent compares them with the frames, byte for byte. Nobody can change the pages now,
 *        because they are mapped nowhere else; and frames never change.
 *     d. Where they are equal it moves the mapping of the frames over the pages. Pages of zeros
 *        that the daemon wants gone need none: the hole reads as zeros. Where they differ it moves
 *        the page back. Then it wakes the threads.
 *     Pages that do not lie side by side are not out at the same time: b to d are for each group.
 *  3. When an order's pages are in place it serves forks, gives threads that came to a hole a page
 *     of zeros, so that they wait no longer than for one order, and drops the staging pages.
 *  4. It leaves the userfaultfd, and wakes the waiting threads.
 *  5. It registers for tracking again.
 *
 * Pages between frames may be ordered to become private pages in the mapping of these: inlay.c.
 * They go the same way, as part of the run.
 *
 * Every step that fails leads back: a page is moved back unless its frame is mapped. Where that
 * fails for want of memory the agent repeats it until it succeeds. Where the mapping has changed
 * meanwhile it copies the page. It never gives a page up. While it holds the lock of as.h no
 * wrapper changes the address space.
 *
 * What was rejected: write-protecting instead of moving. Readers would not wait, but a page whose
 * DMA is in flight would be replaced, and there is no other way to ask the kernel for pins.
 */
#include "client/replace.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "client/as_frames.h"
#include "client/aside.h"
#include "client/inlay.h"
#include "client/io.h"
#include "client/mend.h"
#include "client/pageset.h"
#include "client/staging.h"
#include "client/stretches.h"
#include "client/sysc.h"
#include "client/uffd.h"
#include "wire/kernel_abi.h"

#define CHUNK_RUNS 16u  /* some 100 us where each needs a mapping */
#define MOVE_TRIES 16   /* of a page that is locked, or of which a fork is being announced */
#define COPY_TRIES 1000 /* of a page that nothing known keeps from going back */

/*
 * The private pages of an order, under way: sets of them, bit per page of the block. Invariants:
 * moved is part of at.pages; mapped and dropped are disjoint parts of moved; bare is part of
 * mapped. What is moved and neither mapped nor dropped has to go back.
 */
struct txn {
	const struct kit *k;
	const struct ksm_msg_order *m;
	struct order_pages *of; /* of->mapped: replaced by frames */
	struct aside_sheet sheet;
	uint8_t *result;  /* of every page of the order */
	uint64_t moved;   /* out, in the staging area */
	uint64_t bare;    /* mapped, and without page tables so far */
	uint64_t dropped; /* zeros, given back */
};

/* Move pages [from, to) of the block out; pages that refuse get their result and stay. */
static void move_out(struct txn *t, unsigned int from, unsigned int to) NEEDS(as.lock)
{
	unsigned int i = from;
	int tries = 0;

	while (i < to) {
		uint64_t off = (uint64_t)i * KSM_PAGE_SIZE;
		long r = staging_move(t->k, (uintptr_t)t->k->staging + off, t->m->addr + off,
				      to - i);

		if (r == 0) {
			t->moved |= pageset_range(i, to);
			return;
		}
		t->moved |= staging_pages(t->k) & pageset_range(from, to);
		if (t->moved & pageset_bit(i)) {
			tries = 0;
			while (i < to && (t->moved & pageset_bit(i)))
				i++;
		} else if (r == -EAGAIN && ++tries < MOVE_TRIES) {
			/* A fork is being announced, or the page is locked for a moment. */
			uffd_serve_forks(t->k, t->m->addr, t->moved, t->k->staging);
		} else {
			t->result[i++] = r == -EAGAIN ? KSM_RES_BUSY : order_result(r);
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
static void copy_back(struct txn *t, unsigned int i, int *tries)
{
	uint64_t off = (uint64_t)i * KSM_PAGE_SIZE;
	struct uffdio_copy c = {
		.dst = t->m->addr + off,
		.src = (uintptr_t)t->k->staging + off,
		.len = KSM_PAGE_SIZE,
		.mode = UFFDIO_COPY_MODE_DONTWAKE,
	};
	long r = sysc3(SYS_ioctl, t->k->uffd_sync, UFFDIO_COPY, &c);

	if (sysc_may_pass(r) || (r && r != -ENOENT && r != -EEXIST && ++*tries < COPY_TRIES)) {
		sysc0(SYS_sched_yield); /* not for the moment */
		return;
	}
	*tries = 0;
	sysc3(SYS_madvise, t->k->staging + off, KSM_PAGE_SIZE, MADV_DONTNEED_LOCKED);
	t->moved &= ~pageset_bit(i);
}

static void move_back(struct txn *t, unsigned int from, unsigned int to) NEEDS(as.lock)
{
	int tries = 0;

	while (from < to) {
		uint64_t off = (uint64_t)from * KSM_PAGE_SIZE;
		long r = staging_move(t->k, t->m->addr + off, (uintptr_t)t->k->staging + off,
				      to - from);
		uint64_t left = r == 0 ? 0 : staging_pages(t->k) & pageset_range(from, to);

		t->moved &= ~pageset_range(from, to) | left;
		if (left & pageset_bit(from)) {
			uffd_serve_forks(t->k, t->m->addr, t->moved, t->k->staging);
			if (sysc_may_pass(r))
				sysc0(SYS_sched_yield);
			else
				copy_back(t, from, &tries);
		}
		while (from < to && !(t->moved & pageset_bit(from)))
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
	uint64_t inlaid;      /* pages of it that stay private, as part of the same mapping */
	const uint8_t *bytes; /* contents of the frames; NULL: zeros */
	uint8_t *map;         /* their mapping aside; NULL: they are on the sheet */
};

/*
 * Runs that are prepared together. Those that lie side by side are out at the same time, and
 * threads that come to one wait until all are replaced. So there are not many.
 */
struct chunk {
	struct run run[CHUNK_RUNS];
	unsigned int nr;
	uint64_t pages;
};

/* Move the mapping of their frames over pages [i, to), which are equal to them. */
static void map_frames(struct txn *t, unsigned int i, unsigned int to, uint8_t *aside)
	NEEDS(as.lock)
{
	uint64_t at = order_page(t->m, i);
	size_t len = (size_t)(to - i) * KSM_PAGE_SIZE;
	enum ksm_res res = KSM_RES_NOMEM;
	long r = as_frames_set(at, at + len);

	if (!r) {
		r = aside ? sysc5(SYS_mremap, aside, (long)len, (long)len,
				  MREMAP_MAYMOVE | MREMAP_FIXED, (long)at) :
			    aside_sheet_place(&t->sheet, t->m->frame[i], len, at);
		if (sysc_failed(r))
			res = mend_failed_map(t->k, at, len, r);
	}
	if (sysc_failed(r)) {
		as_frames_clear(at, at + len);
		memset(t->result + i, (int)res, to - i);
		return;
	}
	t->of->mapped |= pageset_range(i, to);
	if (!aside)
		t->bare |= pageset_range(i, to);
	memset(t->result + i, KSM_RES_MERGED, to - i);
}

/* Compare pages [from, to), which were moved, with their frames, and map the equal parts. */
static void map_equal(struct txn *t, const struct run *r, unsigned int from, unsigned int to)
	NEEDS(as.lock)
{
	for (unsigned int i = from, j; i < to; i = j) {
		size_t off = (size_t)(i - r->from) * KSM_PAGE_SIZE;

		for (j = i; j < to && !memcmp(t->k->staging + (size_t)j * KSM_PAGE_SIZE,
					      r->bytes + (size_t)(j - r->from) * KSM_PAGE_SIZE,
					      KSM_PAGE_SIZE);
		     j++)
			;
		if (j > i)
			map_frames(t, i, j, r->map ? r->map + off : NULL);
		else
			t->result[j++] = KSM_RES_DIFFERENT;
	}
}

/* Map a piece of a run, which begins with a frame, with the private pages that are inlaid. */
static void map_piece(struct txn *t, const struct run *r, unsigned int i, unsigned int to)
	NEEDS(as.lock)
{
	uint64_t sheet = t->sheet.at + (uint64_t)(t->m->frame[i] - t->sheet.frame) * KSM_PAGE_SIZE;
	uint64_t inlaid = r->inlaid & pageset_range(i, to);

	if (inlay_copy(t->k, sheet - (uint64_t)i * KSM_PAGE_SIZE, inlaid))
		map_frames(t, i, to, NULL);
	else
		memset(t->result + i, KSM_RES_NOMEM, to - i);
	if (!(t->of->mapped & pageset_bit(i))) {
		/* The next piece may have frames there. */
		sysc3(SYS_madvise, sheet, (long)(to - i) * KSM_PAGE_SIZE, MADV_DONTNEED);
		return;
	}
	for (unsigned int p = 0, j; pageset_next(inlaid, &p, &j); p = j)
		memset(t->result + p, KSM_RES_INLAID, j - p);
}

/* Where pages differ from their frames, or could not be moved, the mapping ends. */
static void map_inlaid(struct txn *t, const struct run *r) NEEDS(as.lock)
{
	uint64_t fit = t->moved & pageset_range(r->from, r->to);

	for (unsigned int i = r->from; i < r->to; i++)
		if ((fit & ~r->inlaid & pageset_bit(i)) &&
		    memcmp(t->k->staging + (size_t)i * KSM_PAGE_SIZE,
			   r->bytes + (size_t)(i - r->from) * KSM_PAGE_SIZE, KSM_PAGE_SIZE)) {
			t->result[i] = KSM_RES_DIFFERENT;
			fit &= ~pageset_bit(i);
		}
	for (unsigned int i = r->from, j; pageset_next(fit, &i, &j); i = j) {
		while (i < j && (r->inlaid & pageset_bit(i)))
			i++;
		if (i < j)
			map_piece(t, r, i, j);
	}
}

/*
 * Unmap what was not moved into place of the frames of a run. Where they were moved away, other
 * threads may have mapped something by now.
 */
static void unmap_rest(const struct txn *t, const struct run *r)
{
	uint64_t rest = pageset_range(r->from, r->to) & ~t->of->mapped;

	for (unsigned int i = r->from, j; r->map && pageset_next(rest, &i, &j); i = j)
		sysc2(SYS_munmap, r->map + (size_t)(i - r->from) * KSM_PAGE_SIZE,
		      (long)(j - i) * KSM_PAGE_SIZE);
}

/* Let dumps have what stands on pieces of the sheet. */
static void show_bare(const struct txn *t) NEEDS(as.lock)
{
	for (unsigned int i = 0, j; pageset_next(t->bare, &i, &j); i = j)
		aside_sheet_show(order_page(t->m, i), order_page(t->m, j));
}

/* Fill their page tables: change tracking takes a page without an entry for written. */
static void fill_bare(const struct txn *t)
{
	for (unsigned int i = 0, j; pageset_next(t->bare, &i, &j); i = j)
		sysc3(SYS_madvise, order_page(t->m, i), (long)(j - i) * KSM_PAGE_SIZE,
		      MADV_POPULATE_READ);
}

/* Have the frames of a run where they can be compared, and mapped at once. */
static bool prepare(struct txn *t, struct run *r) NEEDS(as.lock)
{
	uint32_t first = t->m->frame[r->from];
	size_t len = (size_t)(r->to - r->from) * KSM_PAGE_SIZE;
	uint64_t at = order_page(t->m, r->from);
	uint8_t *buf = t->k->buf + (size_t)r->from * KSM_PAGE_SIZE;

	if (first == KSM_FRAME_ZERO)
		return true;
	if (first == KSM_FRAME_INLAY)
		return false; /* nothing goes on there */
	if (first + (uint64_t)(r->to - r->from) > t->k->arena_pages)
		return false; /* GONE, as every page of the order is so far */
	if (r->inlaid && (!inlay_may(t->k) || !aside_sheet_inlays(&t->sheet, t->k, first, at))) {
		memset(t->result + r->from, KSM_RES_PLAIN, r->to - r->from);
		return false;
	}
	if (r->inlaid || aside_sheet_has(&t->sheet, t->k, first, len, at)) {
		r->bytes = buf;
		return io_pread_all(t->k->arena, buf, len, (uint64_t)first * KSM_PAGE_SIZE);
	}
	r->bytes = r->map = aside_frames(t->k, first, len, at);
	if (!r->map)
		memset(t->result + r->from, KSM_RES_NOMEM, r->to - r->from);
	return r->map;
}

/* Find the next run, from page i on. False: there is none. */
static bool next_run(const struct txn *t, unsigned int i, struct run *r)
{
	const uint32_t *frame = t->m->frame;
	unsigned int j;

	if (!stretches_next(t->of, t->of->pages, &i, &j))
		return false;
	*r = (struct run){ .from = i, .to = i + 1 };
	for (; r->to < j && frame[i] != KSM_FRAME_INLAY; r->to++) {
		if (frame[r->to] == KSM_FRAME_INLAY && frame[i] != KSM_FRAME_ZERO)
			r->inlaid |= pageset_bit(r->to);
		else if (frame[r->to] != frame[i] + (frame[i] == KSM_FRAME_ZERO ? 0 : r->to - i))
			break;
	}
	return true;
}

/* Prepare the next runs, from page i on. Returns the page behind them; 0: no page is left. */
static unsigned int next_chunk(struct txn *t, unsigned int i, struct chunk *c) NEEDS(as.lock)
{
	struct run r;

	c->nr = 0;
	c->pages = 0;
	for (; c->nr < CHUNK_RUNS && next_run(t, i, &r); i = r.to)
		if (prepare(t, &r)) {
			c->run[c->nr++] = r;
			c->pages |= pageset_range(r.from, r.to);
		}
	return c->nr ? i : 0;
}

static void compare_zeros(struct txn *t, const struct run *r)
{
	for (unsigned int i = r->from; i < r->to; i++) {
		if (!(t->moved & pageset_bit(i)))
			continue;
		if (page_is_zero(t->k->staging + (size_t)i * KSM_PAGE_SIZE)) {
			t->result[i] = KSM_RES_MERGED;
			t->dropped |= pageset_bit(i);
			as.gave_zeros = true;
		} else {
			t->result[i] = KSM_RES_DIFFERENT;
		}
	}
}

static void compare_run(struct txn *t, const struct run *r) NEEDS(as.lock)
{
	uint64_t moved = t->moved & pageset_range(r->from, r->to);

	if (!r->bytes) {
		compare_zeros(t, r);
		return;
	}
	if (r->inlaid) {
		map_inlaid(t, r);
		return;
	}
	for (unsigned int i = r->from, j; pageset_next(moved, &i, &j); i = j)
		map_equal(t, r, i, j);
	unmap_rest(t, r);
}

/* A child that was made meanwhile gets its copies first. */
static void return_the_rest(struct txn *t) NEEDS(as.lock)
{
	uint64_t back = t->moved & ~t->of->mapped & ~t->dropped;

	if (back)
		uffd_serve_forks(t->k, t->m->addr, t->moved, t->k->staging);
	for (unsigned int i = 0, j; stretches_next(t->of, back, &i, &j); i = j)
		move_back(t, i, j);
}

/*
 * Threads that wait for one group of pages need not wait for the next one, too. Where only holes
 * are left they would come to one again: they wait for uffd_serve() at the end of the order.
 */
static void replace_chunk(struct txn *t, const struct chunk *c) NEEDS(as.lock)
{
	unsigned int r = 0;

	for (unsigned int i = 0, j; stretches_next(t->of, c->pages, &i, &j); i = j) {
		move_out(t, i, j);
		while (r < c->nr && c->run[r].from < j)
			compare_run(t, &c->run[r++]);
		return_the_rest(t);
		if (pageset_range(i, j) & ~t->dropped)
			uffd_wake(t->k->uffd_sync, order_page(t->m, i), order_page(t->m, j));
	}
}

/* The pages of one order, which have joined. */
static void replace_pages(struct txn *t, struct span all) NEEDS(as.lock)
{
	struct chunk c;

	for (unsigned int i = 0; (i = next_chunk(t, i, &c));)
		replace_chunk(t, &c);
	show_bare(t);
	uffd_serve(t->k, t->m->addr, t->moved, t->k->staging, all);
	if (t->moved)
		sysc3(SYS_madvise, t->k->staging, KIT_ORDER_BYTES, MADV_DONTNEED_LOCKED);
	aside_sheet_end(&t->sheet);
}

unsigned int replace_private(const struct kit *k, const struct ksm_msg_order *m, unsigned int nr,
			     const uint64_t *mask, struct ksm_msg_order_done *done)
{
	struct span all = { m->addr, order_page(&m[nr - 1], KSM_ORDER_PAGES) };
	struct stretches s = { .k = k };
	struct txn t[STRETCHES_ORDERS];
	unsigned int i;

	for (i = 0; i < nr; i++)
		stretches_add(&s, &m[i], mask[i], done[i].result);
	stretches_join(&s);
	for (i = 0; i < nr && !(i && atomic_load_explicit(&as.waiting, memory_order_relaxed));
	     i++) {
		t[i] = (struct txn){ .k = k, .m = &m[i], .of = &s.of[i], .result = done[i].result };
		if (!s.of[i].pages)
			continue;
		aside_sheet_begin(&t[i].sheet, k, &m[i], s.of[i].pages);
		replace_pages(&t[i], all);
	}
	nr = i;
	stretches_leave(&s);
	for (i = 0; i < nr; i++)
		fill_bare(&t[i]);
	stretches_track(&s);
	/* For the last forks that saw it registered: threads wait for the event to be read. */
	uffd_serve_forks(k, m->addr, 0, k->staging);
	return nr;
}
