/* SPDX-License-Identifier: MIT */
/*
 * inplace.c - merge pages that already lie in a mapping of frames.
 *
 * There are three kinds: pages that were written after they were merged (private pages in a file
 * mapping), frames of an earlier daemon's arena, which this daemon does not know, and frames whose
 * pages are to stand on other frames. The agent holds them still (hold.c), compares them with the
 * frames they are to stand on, and maps these over where they are equal. The contents are in place
 * at every instant, so readers and forks need not wait.
 *
 * Reading both sides is most of the cost. So the daemon says which frames it has copied for a move
 * (ksm_msg_order.from), and their bytes are not read again: who fills frames is trusted with their
 * contents anyway. But what stands in a place is never taken on trust. The kernel must say that
 * the mapping there is of this arena, at that very frame, and that every page is the file's and
 * none private; both while they are held.
 *
 * Where whole blocks that follow each other move so, the run is held once for several orders. Its
 * new mapping is made before: writers wait only while it is looked at and put into place.
 *
 * Private pages are refused while the process has any means of having them pinned.
 */
#include "client/inplace.h"

#include <string.h>
#include <sys/mman.h>

#include "base/span.h"
#include "client/as.h"
#include "client/as_frames.h"
#include "client/as_ranges.h"
#include "client/aside.h"
#include "client/changed.h"
#include "client/hold.h"
#include "client/io.h"
#include "client/pageset.h"
#include "client/sysc.h"
#include "client/uffd.h"
#include "wire/kernel_abi.h"

/* Map the frames of pages [from, to) over them. Sealed memory stays as it is. */
static enum ksm_res map_over(const struct kit *k, const struct ksm_msg_order *m, unsigned int from,
			     unsigned int to) NEEDS(as.lock)
{
	size_t len = (size_t)(to - from) * KSM_PAGE_SIZE;
	uint8_t *p = aside_frames(k, m->frame[from], len, order_page(m, from));
	long r;

	if (!p)
		return KSM_RES_NOMEM;
	r = aside_move((uintptr_t)p, len, order_page(m, from));
	if (!r)
		return KSM_RES_MERGED;
	sysc2(SYS_munmap, p, len);
	return r == -EPERM ? KSM_RES_GONE : KSM_RES_NOMEM;
}

/*
 * Compare pages [from, to), whose frames are contiguous, and map these over the equal parts. The
 * memory itself is read through /proc/self/mem, which cannot fault.
 */
static void compare(const struct kit *k, const struct ksm_msg_order *m, unsigned int from,
		    unsigned int to, uint8_t *result) NEEDS(as.lock)
{
	size_t len = (size_t)(to - from) * KSM_PAGE_SIZE;
	uint8_t *mine = k->buf, *frames = k->buf + KIT_ORDER_BYTES;

	if (m->frame[from] + (uint64_t)(to - from) > k->arena_pages ||
	    !io_pread_all(k->mem, mine, len, order_page(m, from)) ||
	    !io_pread_all(k->arena, frames, len, (uint64_t)m->frame[from] * KSM_PAGE_SIZE))
		return; /* GONE, as set by the caller */
	for (unsigned int i = from, j; i < to; i = j) {
		for (j = i;
		     j < to && !memcmp(mine + (size_t)(j - from) * KSM_PAGE_SIZE,
				       frames + (size_t)(j - from) * KSM_PAGE_SIZE, KSM_PAGE_SIZE);
		     j++)
			;
		if (j == i) {
			result[j++] = KSM_RES_DIFFERENT;
			continue;
		}
		memset(result + i, (int)map_over(k, m, i, j), j - i);
	}
}

/* Pages [from, to) of the order, in one range of the table, while writers wait for them. */
struct held {
	unsigned int from, to;
	bool still;       /* they are held */
	uint64_t frames;  /* those that are present, and the file's */
	uint64_t private; /* those that a device may be writing to, if the process has such means */
};

/* Do pages [from, to) stand on the frames of which the new ones are copies? */
static bool are_copied(const struct kit *k, const struct ksm_msg_order *m, const struct held *h,
		       unsigned int from, unsigned int to)
{
	uint64_t start = order_page(m, from), end = order_page(m, to);

	return m->from && !(~h->frames & pageset_range(from, to)) &&
	       aside_stands(k, start, (uint64_t)m->from - 1 + from) >= end;
}

static void replace_run(const struct kit *k, const struct ksm_msg_order *m, const struct held *h,
			unsigned int from, unsigned int to, uint8_t *result) NEEDS(as.lock)
{
	if (m->frame[from] + (uint64_t)(to - from) <= k->arena_pages &&
	    are_copied(k, m, h, from, to))
		memset(result + from, (int)map_over(k, m, from, to), to - from);
	else
		compare(k, m, from, to, result);
}

/*
 * Change tracking takes a page without an entry in the page tables for written. What was mapped
 * over has them (aside.c).
 */
static void populate(const struct ksm_msg_order *m, unsigned int from, unsigned int to,
		     const uint8_t *result)
{
	for (unsigned int i = from, j; i < to; i = j) {
		bool bare = result[i] != KSM_RES_MERGED;

		for (j = i + 1; j < to && (result[j] != KSM_RES_MERGED) == bare; j++)
			;
		if (bare)
			sysc3(SYS_madvise, order_page(m, i), (long)(j - i) * KSM_PAGE_SIZE,
			      MADV_POPULATE_READ);
	}
}

/*
 * Runs that are held at the same time. The look for means of pinning counts only when it comes
 * after a page is held. It costs twice as much as all the rest, so it is made once for several; but
 * writers wait for all of them.
 */
#define GROUP_RUNS 8u

/*
 * Orders that are one run are carried out together, because to hold a run costs some 30 us however
 * long it is, a quarter of what an order takes. Program threads that want the lock wait for all.
 */
#define RUN_ORDERS 8u

/* The next run of the mask, from page *i on, that is known to stand on frames; *i: its first. */
static bool next_run(const struct ksm_msg_order *m, uint64_t mask, unsigned int *i, struct held *h)
	NEEDS(as.lock)
{
	while (pageset_next(mask, i, &h->to) &&
	       (!as_frame_bit(order_page(m, *i)) || !as_range_at(order_page(m, *i))))
		++*i; /* it was left a moment ago: changed.h */
	if (!pageset_next(mask, i, &h->to))
		return false;
	h->from = *i;
	/* In one range: what the kernel was told of it holds for the whole run. */
	h->to = (unsigned int)u64_min(h->to, (as_range_at(order_page(m, *i))->end - m->addr) /
						     KSM_PAGE_SIZE);
	return true;
}

/* Hold the next run of the mask still, at or after page *i. False: there is none. */
static bool hold_next(const struct kit *k, const struct ksm_msg_order *m, uint64_t mask,
		      unsigned int *i, struct held *h, uint8_t *result) NEEDS(as.lock)
{
	uint64_t start, end;

	*h = (struct held){ 0 };
	do {
		if (!next_run(m, mask, i, h))
			return false;
		start = order_page(m, h->from);
		end = order_page(m, h->to);
	} while (!changed_look(k, start, end)); /* then the rest of it is looked for again */
	*i = h->to;
	h->still = hold_begin(k, start, end) == 0;
	if (h->still && hold_look(k, start, end, &h->frames, &h->private))
		memset(result + h->from, KSM_RES_BUSY, h->to - h->from);
	h->frames <<= h->from;
	h->private <<= h->from;
	return true;
}

/* Replace what may be replaced of a run that is held, and let writers go on. */
static void replace(const struct kit *k, const struct ksm_msg_order *m, const struct held *h,
		    uint8_t *result) NEEDS(as.lock)
{
	uint64_t start = order_page(m, h->from), end = order_page(m, h->to);

	for (unsigned int i = h->from, j; h->still && i < h->to; i = j) {
		j = i + 1;
		if (result[i] == KSM_RES_BUSY || m->frame[i] == KSM_FRAME_ZERO ||
		    m->frame[i] == KSM_FRAME_INLAY)
			continue; /* a page of zeros cannot be given back here */
		while (j < h->to && result[j] != KSM_RES_BUSY && m->frame[j] == m->frame[j - 1] + 1)
			j++;
		replace_run(k, m, h, i, j, result);
	}
	hold_end(k, start, end);
	populate(m, h->from, h->to, result);
	uffd_register(k->uffd_async, start, end, UFFDIO_REGISTER_MODE_WP);
}

static void execute_one(const struct kit *k, const struct ksm_msg_order *m, uint64_t mask,
			uint8_t *result) NEEDS(as.lock)
{
	struct held h[GROUP_RUNS];
	unsigned int nr;

	for (unsigned int i = 0;;) {
		uint64_t private = 0;

		for (nr = 0; nr < GROUP_RUNS && hold_next(k, m, mask, &i, &h[nr], result); nr++)
		private |= h[nr].private;
		if (!nr)
			return;
		if (private && hold_may_be_pinned(k))
			for (unsigned int p = 0, j; pageset_next(private, &p, &j); p = j)
				memset(result + p, KSM_RES_BUSY, j - p);
		for (unsigned int r = 0; r < nr; r++)
			replace(k, m, &h[r], result);
	}
}

/* ---- orders that are one run ---- */

/* Do all pages of the order move, from one run of frames to the copies of these, one run, too? */
static bool is_run(const struct ksm_msg_order *m, uint64_t mask)
{
	unsigned int i = 1;

	while (i < KSM_ORDER_PAGES && m->frame[i] == m->frame[0] + i)
		i++;
	return i == KSM_ORDER_PAGES && m->from && !~mask;
}

/* How many orders, from the first on, are one run together? */
static unsigned int count_run(const struct ksm_msg_order *m, unsigned int nr, const uint64_t *mask)
{
	unsigned int n = 0;

	while (n < nr && n < RUN_ORDERS && is_run(&m[n], mask[n]) &&
	       m[n].from == m->from + n * KSM_ORDER_PAGES &&
	       m[n].frame[0] == m->frame[0] + n * KSM_ORDER_PAGES)
		n++;
	return n;
}

/* How many of the orders end at or before `end`? */
static unsigned int count_before(const struct ksm_msg_order *m, unsigned int nr, uint64_t end)
{
	return end < m->addr ? 0 : (unsigned int)u64_min(nr, (end - m->addr) / KIT_ORDER_BYTES);
}

/* How many lie in the mapping of frames that the daemon says? */
static unsigned int count_standing(const struct kit *k, const struct ksm_msg_order *m,
				   unsigned int nr)
{
	return count_before(m, nr, aside_stands(k, m->addr, m->from - 1));
}

/* How many lie there, with no page that is private? */
static unsigned int count_frames(const struct kit *k, const struct ksm_msg_order *m,
				 unsigned int nr)
{
	uint64_t end = hold_frames_end(k, m->addr, order_page(&m[nr - 1], KSM_ORDER_PAGES));

	return u64_min(count_before(m, nr, end), count_standing(k, m, nr));
}

/* Replace the first of them that stand where the daemon says. Returns how many. */
static unsigned int replace_together(const struct kit *k, const struct ksm_msg_order *m,
				     unsigned int nr) NEEDS(as.lock)
{
	size_t len = nr * KIT_ORDER_BYTES, moved;
	uint64_t start = m->addr, end = start + len;
	const struct as_range *r = as_range_at(start);
	uint8_t *p;

	if (!r || r->end < end || m->frame[0] + (uint64_t)nr * KSM_ORDER_PAGES > k->arena_pages ||
	    !changed_look(k, start, end))
		return 0;
	p = aside_frames(k, m->frame[0], len, start);
	if (!p)
		return 0;
	nr = hold_begin(k, start, end) ? 0 : count_frames(k, m, nr);
	moved = nr * KIT_ORDER_BYTES;
	if (nr && aside_move((uintptr_t)p, moved, start))
		nr = moved = 0;
	hold_end(k, start, end);
	uffd_register(k->uffd_async, start, end, UFFDIO_REGISTER_MODE_WP);
	if (moved < len)
		sysc2(SYS_munmap, p + moved, len - moved);
	return nr;
}

unsigned int inplace_execute(const struct kit *k, const struct ksm_msg_order *m, unsigned int nr,
			     const uint64_t *mask, struct ksm_msg_order_done *done)
{
	unsigned int run = count_run(m, nr, mask), n = run ? count_standing(k, m, run) : 0;

	if (n)
		n = replace_together(k, m, n);
	for (unsigned int i = 0; i < n; i++)
		memset(done[i].result, KSM_RES_MERGED, KSM_ORDER_PAGES);
	if (n)
		return n;
	/* Something is in the way, and may be again: a mapping is made in vain once for a run. */
	do
		execute_one(k, &m[n], mask[n], done[n].result);
	while (++n < run);
	return n;
}
