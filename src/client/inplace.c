/* SPDX-License-Identifier: MIT */
/*
 * inplace.c - merge pages that already lie in a mapping of frames.
 *
 * There are two kinds: pages that were written after they were merged (private pages in a file
 * mapping), and frames of an earlier daemon's arena, which this daemon does not know. The agent
 * holds them still (hold.c), compares them with the frames they are to stand on, and maps these
 * over where they are equal. The contents are in place at every instant, so readers and forks need
 * not wait.
 *
 * Private pages are refused while the process has any means of having them pinned.
 */
#include "client/inplace.h"

#include <string.h>
#include <sys/mman.h>

#include "client/as.h"
#include "client/aside.h"
#include "client/hold.h"
#include "client/io.h"
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

/* Refuse the private pages of [from, to) if a device may be writing to them. */
static void refuse_pinned(const struct kit *k, const struct ksm_msg_order *m, unsigned int from,
			  unsigned int to, uint8_t *result)
{
	struct kabi_page_region v[HOLD_MAX_PAGES];
	long n = hold_private(k, order_page(m, from), order_page(m, to), v);

	if (n == 0 || (n > 0 && !hold_may_be_pinned(k)))
		return;
	if (n < 0) {
		memset(result + from, KSM_RES_BUSY, to - from);
		return;
	}
	for (long i = 0; i < n; i++)
		memset(result + (v[i].start - m->addr) / KSM_PAGE_SIZE, KSM_RES_BUSY,
		       (v[i].end - v[i].start) / KSM_PAGE_SIZE);
}

void inplace_execute(const struct kit *k, const struct ksm_msg_order *m, unsigned int from,
		     unsigned int to, uint8_t *result)
{
	uint64_t start = order_page(m, from), end = order_page(m, to);

	if (hold_begin(k, start, end) == 0) {
		refuse_pinned(k, m, from, to, result);
		for (unsigned int i = from, j; i < to; i = j) {
			j = i + 1;
			if (result[i] == KSM_RES_BUSY || m->frame[i] == KSM_FRAME_ZERO ||
			    m->frame[i] == KSM_FRAME_INLAY)
				continue; /* a page of zeros cannot be given back here */
			while (j < to && result[j] != KSM_RES_BUSY &&
			       m->frame[j] == m->frame[j - 1] + 1)
				j++;
			compare(k, m, i, j, result);
		}
	}
	hold_end(k, start, end);
	sysc3(SYS_madvise, start, end - start, MADV_POPULATE_READ); /* as in txn.c */
	uffd_register(k->uffd_async, start, end, UFFDIO_REGISTER_MODE_WP);
}
