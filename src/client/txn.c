// SPDX-License-Identifier: MIT
/*
 * txn.c - a merge transaction: replace pages by frames of equal content, losing nothing.
 *
 * For each run of eligible pages of the order:
 *  1. leave change tracking, register the run in the synchronous userfaultfd (MISSING);
 *  2. UFFDIO_MOVE the pages to the staging area. From here threads that touch them wait. A page
 *     that is pinned for DMA, or shared with a forked child, is refused with EBUSY and stays;
 *  3. read the frames (pread of the arena: no page-table work) and compare, byte for byte. Nobody
 *     can change the pages now: they are mapped nowhere else. Frames never change;
 *  4. equal: mmap(MAP_PRIVATE | MAP_FIXED) of the frames over the run. Pages of zeros that the
 *     daemon wants gone need no mapping: the hole reads as zeros. Different: move back;
 *  5. serve forks, wake the waiting threads;
 *  6. populate the mappings (one call for many pages, where the program would take one fault each),
 *     register for tracking again, drop the staging pages.
 *
 * Pages that lie in a mapping of frames already cannot be moved: inplace.c.
 *
 * Every step that fails leads back: a page is moved back unless its frame is mapped. Moving back
 * can only fail for want of memory for page tables, so it is repeated until it succeeds: a page is
 * never given up. Holding the lock (as.h) means that no wrapper changes the address space meanwhile.
 *
 * What was rejected: write-protecting instead of moving. Readers would not wait, but a page whose
 * DMA is in flight would be replaced, and there is no other way to ask the kernel for pins.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "client/agent.h"
#include "client/as.h"
#include "client/io.h"
#include "client/sysc.h"
#include "wire/kernel_abi.h"

struct run {
	uint64_t addr;         /* of page `from` */
	unsigned int from, to; /* page numbers in the block */
	uint64_t moved;        /* pages now in staging, bit per page of the block */
	uint64_t mapped;       /* replaced by frames */
	uint64_t dropped;      /* zero pages given back */
};

static uint64_t bit(unsigned int i)
{
	return 1ull << i;
}

/* Pages of the order that may be replaced now; *in_frames: those in frame mappings already. */
static uint64_t eligible(const struct ksm_msg_txn *m, uint64_t *in_frames)
{
	uint64_t mask = 0;
	size_t r = as_find(m->addr);

	for (unsigned int i = 0; i < KSM_TXN_PAGES; i++) {
		uint64_t a = m->addr + (uint64_t)i * KSM_PAGE_SIZE;

		if (m->frame[i] == KSM_FRAME_NONE)
			continue;
		while (r < as.nr && as.range[r].end <= a)
			r++;
		if (r == as.nr)
			break;
		if (as.range[r].start <= a && as_offered(&as.range[r]) &&
		    as.range[r].prot == (PROT_READ | PROT_WRITE)) {
			mask |= bit(i);
			if (as_frame_bit(a))
				*in_frames |= bit(i);
		}
	}
	return mask;
}

static bool has_mempolicy(uint64_t addr)
{
	int mode = 0;
	long r = sysc5(SYS_get_mempolicy, &mode, NULL, 0, addr, 2 /* MPOL_F_ADDR */);

	return r == 0 && mode != 0 /* MPOL_DEFAULT */;
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

static uint64_t bits(unsigned int from, unsigned int to)
{
	return (to - from == 64 ? ~0ull : (1ull << (to - from)) - 1) << from;
}

/*
 * Which pages of the block are in the staging area. The kernel's own account of a partial UFFDIO_MOVE
 * cannot be relied on: Linux 6.18, which moves in batches, was seen to answer EEXIST with no
 * bytes moved after it had moved pages, where a fork shares the page behind them (test_agent's raw
 * forks lose pages when this is not looked up). The page tables know.
 */
static uint64_t staged(struct agent *a)
{
	uint64_t pm[KSM_TXN_PAGES], mask = 0;
	long n;

	do
		n = sysc4(SYS_pread64, a->pagemap, pm, sizeof(pm),
			  (uintptr_t)a->staging / KSM_PAGE_SIZE * sizeof(pm[0]));
	while (n != (long)sizeof(pm)); /* EINTR, or memory is short for a moment */
	for (unsigned int i = 0; i < KSM_TXN_PAGES; i++)
		if (pm[i] >> 62) /* present or swapped */
			mask |= bit(i);
	return mask;
}

static long move(struct agent *a, uint64_t dst, uint64_t src, unsigned int pages)
{
	struct kabi_uffdio_move mv = {
		.dst = dst,
		.src = src,
		.len = (uint64_t)pages * KSM_PAGE_SIZE,
		.mode = KABI_UFFDIO_MOVE_MODE_DONTWAKE,
	};

	return sysc3(SYS_ioctl, a->uffd_sync, KABI_UFFDIO_MOVE, &mv);
}

/* Move pages [from, to) of the block out; pages that refuse get their result and stay. */
static void move_out(struct agent *a, const struct ksm_msg_txn *m, struct run *run, uint8_t *result)
{
	unsigned int i = run->from;
	int tries = 0;

	while (i < run->to) {
		uint64_t off = (uint64_t)i * KSM_PAGE_SIZE;
		long r = move(a, (uintptr_t)a->staging + off, m->addr + off, run->to - i);

		if (r == 0) {
			run->moved |= bits(i, run->to);
			return;
		}
		run->moved |= staged(a) & bits(run->from, run->to);
		if (run->moved & bit(i)) {
			tries = 0;
			while (i < run->to && (run->moved & bit(i)))
				i++;
		} else if (r == -EAGAIN && ++tries < 16) {
			/* A fork is being announced, or the page is locked for a moment. */
			uffd_serve_forks(a, m->addr, run->moved, a->staging);
		} else {
			result[i++] = r == -EAGAIN ? KSM_RES_BUSY : res_of_errno(r);
			tries = 0;
		}
	}
}

static void move_back(struct agent *a, const struct ksm_msg_txn *m, struct run *run,
		      unsigned int from, unsigned int to)
{
	while (from < to) {
		uint64_t off = (uint64_t)from * KSM_PAGE_SIZE;
		long r = move(a, m->addr + off, (uintptr_t)a->staging + off, to - from);
		uint64_t left = r == 0 ? 0 : staged(a) & bits(from, to);

		run->moved &= ~bits(from, to) | left;
		if (left & bit(from)) {
			uffd_serve_forks(a, m->addr, run->moved, a->staging);
			sysc0(SYS_sched_yield);
		}
		while (from < to && !(left & bit(from)))
			from++;
	}
}

/* Read nr frames into the buffer, at the place of page i. */
static bool read_frames(struct agent *a, unsigned int i, uint32_t frame, unsigned int nr)
{
	return io_pread_all(a->arena, a->buf + (size_t)i * KSM_PAGE_SIZE,
			    (size_t)nr * KSM_PAGE_SIZE, (uint64_t)frame * KSM_PAGE_SIZE);
}

static bool page_is_zero(const uint8_t *p)
{
	return !p[0] && !memcmp(p, p + 1, KSM_PAGE_SIZE - 1);
}

static bool page_equal(struct agent *a, unsigned int i)
{
	size_t off = (size_t)i * KSM_PAGE_SIZE;

	return !memcmp(a->staging + off, a->buf + off, KSM_PAGE_SIZE);
}

/* Map frames over pages [i, to), which are equal to them. */
static void map_frames(struct agent *a, const struct ksm_msg_txn *m, struct run *run,
		       unsigned int i, unsigned int to, uint8_t *result)
{
	uint64_t at = m->addr + (uint64_t)i * KSM_PAGE_SIZE;
	size_t len = (size_t)(to - i) * KSM_PAGE_SIZE;
	long r = as_frames_set(at, at + len);

	if (!r)
		r = sysc6(SYS_mmap, (long)at, (long)len, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_FIXED, a->arena, (long)m->frame[i] * KSM_PAGE_SIZE);
	if (sysc_failed(r)) {
		as_frames_clear(at, at + len);
		for (; i < to; i++)
			result[i] = KSM_RES_NOMEM;
		return;
	}
	for (; i < to; i++) {
		run->mapped |= bit(i);
		result[i] = KSM_RES_MERGED;
	}
}

/* One stretch of moved pages with contiguous frames: compare and map the equal parts. */
static void settle_frames(struct agent *a, const struct ksm_msg_txn *m, struct run *run,
			  unsigned int from, unsigned int to, uint8_t *result)
{
	unsigned int i = from;

	if (m->frame[from] + (uint64_t)(to - from) > a->arena_pages ||
	    !read_frames(a, from, m->frame[from], to - from)) {
		for (; i < to; i++)
			result[i] = KSM_RES_GONE;
		return;
	}
	while (i < to) {
		unsigned int k = i;

		while (k < to && page_equal(a, k))
			k++;
		if (k > i)
			map_frames(a, m, run, i, k, result);
		else
			result[k++] = KSM_RES_DIFFERENT;
		i = k;
	}
}

static void settle(struct agent *a, const struct ksm_msg_txn *m, struct run *run, uint8_t *result)
{
	unsigned int i = run->from;

	while (i < run->to) {
		unsigned int k = i + 1;

		if (!(run->moved & bit(i))) {
			i++;
			continue;
		}
		if (m->frame[i] == KSM_FRAME_ZERO) {
			bool zero = page_is_zero(a->staging + (size_t)i * KSM_PAGE_SIZE);

			result[i] = zero ? KSM_RES_MERGED : KSM_RES_DIFFERENT;
			if (zero)
				run->dropped |= bit(i);
			i++;
			continue;
		}
		while (k < run->to && (run->moved & bit(k)) && m->frame[k] == m->frame[k - 1] + 1)
			k++;
		settle_frames(a, m, run, i, k, result);
		i = k;
	}
}

static void return_the_rest(struct agent *a, const struct ksm_msg_txn *m, struct run *run)
{
	uint64_t back = run->moved & ~run->mapped & ~run->dropped;

	while (back) {
		unsigned int i = (unsigned int)__builtin_ctzll(back), k = i;

		while (k < KSM_TXN_PAGES && (back & bit(k))) {
			back &= ~bit(k);
			k++;
		}
		move_back(a, m, run, i, k);
	}
}

/*
 * One call for the whole stretch, where the program would take a fault for each page. It also keeps
 * pagemap, change tracking and another daemon from taking an untouched frame for a hole.
 */
static void populate(const struct ksm_msg_txn *m, const struct run *run)
{
	unsigned int first, last;

	if (!run->mapped)
		return;
	first = (unsigned int)__builtin_ctzll(run->mapped);
	last = 63 - (unsigned int)__builtin_clzll(run->mapped);
	sysc3(SYS_madvise, m->addr + (uint64_t)first * KSM_PAGE_SIZE,
	      (long)(last + 1 - first) * KSM_PAGE_SIZE, MADV_POPULATE_READ);
}

/*
 * Leave the synchronous userfaultfd where the old mapping still stands (before anything is populated:
 * a hole that is still registered would make the agent wait for itself), then track again.
 */
static void resume_tracking(struct agent *a, const struct ksm_msg_txn *m, const struct run *run,
			    uint64_t start, uint64_t end)
{
	if (run->mapped != bits(run->from, run->to))
		uffd_unregister(a->uffd_sync, start, end);
	populate(m, run);
	uffd_register(a->uffd_async, start, end, UFFDIO_REGISTER_MODE_WP);
}

static void execute_run(struct agent *a, const struct ksm_msg_txn *m, unsigned int from,
			unsigned int to, uint8_t *result)
{
	struct run run = { .from = from, .to = to };
	uint64_t start = m->addr + (uint64_t)from * KSM_PAGE_SIZE;
	uint64_t end = m->addr + (uint64_t)to * KSM_PAGE_SIZE;
	long r;

	if (has_mempolicy(start)) {
		memset(result + from, KSM_RES_GONE, to - from);
		return;
	}
	uffd_unregister(a->uffd_async, start, end);
	r = uffd_register(a->uffd_sync, start, end, UFFDIO_REGISTER_MODE_MISSING);
	if (r < 0) {
		memset(result + from, res_of_errno(r), to - from);
		uffd_unregister(a->uffd_sync, start, end); /* it may have failed half-way */
		uffd_register(a->uffd_async, start, end, UFFDIO_REGISTER_MODE_WP);
		return;
	}
	move_out(a, m, &run, result);
	settle(a, m, &run, result);
	uffd_serve_forks(a, m->addr, run.moved, a->staging);
	return_the_rest(a, m, &run);
	uffd_wake(a->uffd_sync, start, end);
	resume_tracking(a, m, &run, start, end);
	/* The last forks that saw the run registered: their threads wait for the event to be read. */
	uffd_serve_forks(a, m->addr, 0, a->staging);
	if (run.moved)
		sysc3(SYS_madvise, a->staging + (size_t)from * KSM_PAGE_SIZE,
		      (long)(to - from) * KSM_PAGE_SIZE, MADV_DONTNEED_LOCKED);
}

/*
 * The staging area is the one range that is always registered for missing pages, and nobody
 * answers for it. mlockall(2) of the program wants to fill every mapping that can be accessed, and
 * would wait there for ever; so it cannot be accessed but in a transaction, and who ran into it then is
 * woken to see that. It must not stay locked either: pages move between mappings that are both locked
 * or both not, and locked memory is not ours to replace.
 */
static bool staging_open(struct agent *a)
{
	size_t len = KSM_TXN_PAGES * KSM_PAGE_SIZE;

	sysc2(SYS_munlock, a->staging, len);
	return sysc3(SYS_mprotect, a->staging, len, PROT_READ | PROT_WRITE) == 0;
}

static void staging_close(struct agent *a)
{
	size_t len = KSM_TXN_PAGES * KSM_PAGE_SIZE;

	sysc3(SYS_mprotect, a->staging, len, PROT_NONE);
	uffd_wake(a->uffd_sync, (uintptr_t)a->staging, (uintptr_t)a->staging + len);
}

void txn_execute(struct agent *a, const struct ksm_msg_txn *m, uint8_t result[KSM_TXN_PAGES])
{
	uint64_t mask, in_frames = 0;
	unsigned int i = 0;

	as_agent_lock();
	if (as.nr_events || as.overflow || m->seq != a->sent_seq) {
		for (; i < KSM_TXN_PAGES; i++)
			result[i] = m->frame[i] == KSM_FRAME_NONE ? KSM_RES_NONE : KSM_RES_STALE;
		as_unlock();
		return;
	}
	for (i = 0; i < KSM_TXN_PAGES; i++)
		result[i] = m->frame[i] == KSM_FRAME_NONE ? KSM_RES_NONE : KSM_RES_GONE;
	mask = eligible(m, &in_frames);
	if ((mask & ~in_frames) && !staging_open(a))
		mask &= in_frames;
	for (i = 0; i < KSM_TXN_PAGES;) {
		unsigned int k = i + 1;

		if (!(mask & bit(i))) {
			i++;
			continue;
		}
		while (k < KSM_TXN_PAGES && (mask & bit(k)) &&
		       !(in_frames & bit(k)) == !(in_frames & bit(i)))
			k++;
		if (in_frames & bit(i))
			inplace_execute(a, m, i, k, result);
		else
			execute_run(a, m, i, k, result);
		i = k;
	}
	if (mask & ~in_frames)
		staging_close(a);
	as_unlock();
}
