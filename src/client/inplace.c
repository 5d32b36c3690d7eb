// SPDX-License-Identifier: MIT
/*
 * inplace.c - merge pages that already lie in a mapping of frames.
 *
 * Two kinds: pages that were written after they were merged (private pages in a file mapping), and
 * frames that the daemon does not know, of an earlier daemon's arena. They are held still (hold.c),
 * compared with the frames they are to stand on, and mapped over where equal. The contents are in
 * place at every instant, so readers and forks need not wait.
 *
 * Private pages are refused while the process has any means of having them pinned.
 */
#include <string.h>
#include <sys/mman.h>

#include "client/kit.h"
#include "client/as.h"
#include "client/io.h"
#include "client/sysc.h"
#include "wire/kernel_abi.h"

/* One stretch with contiguous frames. The memory itself is read through /proc/self/mem. */
static void settle(struct agent *a, const struct ksm_msg_order *m, unsigned int from,
		   unsigned int to, uint8_t *result)
{
	size_t len = (size_t)(to - from) * KSM_PAGE_SIZE;
	uint8_t *mine = a->buf, *frames = a->buf + KSM_ORDER_PAGES * KSM_PAGE_SIZE;

	if (m->frame[from] + (uint64_t)(to - from) > a->arena_pages ||
	    !io_pread_all(a->mem, mine, len, txn_page(m, from)) ||
	    !io_pread_all(a->arena, frames, len, (uint64_t)m->frame[from] * KSM_PAGE_SIZE))
		return; /* GONE, as set by the caller */
	for (unsigned int i = from, k; i < to; i = k) {
		for (k = i;
		     k < to && !memcmp(mine + (size_t)(k - from) * KSM_PAGE_SIZE,
				       frames + (size_t)(k - from) * KSM_PAGE_SIZE, KSM_PAGE_SIZE);
		     k++)
			;
		if (k == i) {
			result[k++] = KSM_RES_DIFFERENT;
			continue;
		}
		memset(result + i,
		       sysc_failed(sysc6(SYS_mmap, (long)txn_page(m, i),
					 (long)(k - i) * KSM_PAGE_SIZE, PROT_READ | PROT_WRITE,
					 MAP_PRIVATE | MAP_FIXED, a->arena,
					 (long)m->frame[i] * KSM_PAGE_SIZE)) ?
			       KSM_RES_NOMEM :
			       KSM_RES_MERGED,
		       k - i);
	}
}

/* Refuse the private pages of the run if a device may be writing to them. */
static void refuse_pinned(struct agent *a, const struct ksm_msg_order *m, unsigned int from,
			  unsigned int to, uint8_t *result)
{
	struct kabi_page_region v[HOLD_MAX_PAGES];
	long n = hold_private(a, txn_page(m, from), txn_page(m, to), v);

	if (n == 0 || (n > 0 && !hold_may_be_pinned(a)))
		return;
	if (n < 0) {
		memset(result + from, KSM_RES_BUSY, to - from);
		return;
	}
	for (long i = 0; i < n; i++)
		memset(result + (v[i].start - m->addr) / KSM_PAGE_SIZE, KSM_RES_BUSY,
		       (v[i].end - v[i].start) / KSM_PAGE_SIZE);
}

void inplace_execute(struct agent *a, const struct ksm_msg_order *m, unsigned int from,
		     unsigned int to, uint8_t *result)
{
	uint64_t start = txn_page(m, from), end = txn_page(m, to);

	if (hold_begin(a, start, end) == 0) {
		refuse_pinned(a, m, from, to, result);
		for (unsigned int i = from, k; i < to; i = k) {
			k = i + 1;
			if (result[i] == KSM_RES_BUSY || m->frame[i] == KSM_FRAME_ZERO)
				continue; /* a page of zeros cannot be given back here */
			while (k < to && result[k] != KSM_RES_BUSY &&
			       m->frame[k] == m->frame[k - 1] + 1)
				k++;
			settle(a, m, i, k, result);
		}
	}
	hold_end(a, start, end);
	sysc3(SYS_madvise, start, end - start, MADV_POPULATE_READ); /* as in txn.c */
	uffd_register(a->uffd_async, start, end, UFFDIO_REGISTER_MODE_WP);
}
