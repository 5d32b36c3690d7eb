/* SPDX-License-Identifier: MIT */
/*
 * exclusive.c - see exclusive.h.
 *
 * The kernel does not move a page that a fork has shared, because it would have to look for the
 * other mappings. When the other processes have written to their copies, or have gone, the page is
 * mapped here alone, but nothing tells the kernel, and it still calls the page not exclusive. A
 * write fault does: the kernel keeps the page if nothing else refers to it, and else copies it.
 * Such a page is not pinned for DMA, because fork copies pinned pages and pinning makes a page
 * exclusive. The move tests for pins again.
 *
 * Memory must not grow for it. So only pages that the page map shows as mapped here alone are
 * touched, and of these only those whose contents have a partner. If the kernel copies one, the
 * original is freed, and merging frees the copy. A page that others map, too, is one page already.
 *
 * What was rejected: one MADV_POPULATE_WRITE over a stretch. It fills holes, breaks frames, and
 * copies pages that have no partner.
 */
#include "client/exclusive.h"

#include <string.h>
#include <sys/mman.h>

#include "client/io.h"
#include "client/pageset.h"
#include "client/sysc.h"
#include "wire/kernel_abi.h"

#define HUGE_PAGES 512u /* pages of a huge page, x86-64 and arm64 with pages of 4 KiB */

bool exclusive_pagemap(const struct kit *k, uint64_t addr, unsigned int pages, uint64_t *entry)
{
	long len = (long)(pages * sizeof(entry[0])), n;

	do
		n = sysc4(SYS_pread64, k->pagemap, entry, len,
			  addr / KSM_PAGE_SIZE * sizeof(entry[0]));
	while (sysc_may_pass(n)); /* interrupted, or memory is short for a moment */
	/* A block may end behind the last address that a program can have. */
	memset((uint8_t *)entry + (n < 0 ? 0 : n), 0, (size_t)(n < 0 ? len : len - n));
	return n >= 0;
}

uint64_t exclusive_shared(const struct kit *k, const struct ksm_msg_order *m, uint64_t set)
{
	uint64_t entry[KSM_ORDER_PAGES], shared = 0;

	exclusive_pagemap(k, m->addr, KSM_ORDER_PAGES, entry);
	for (unsigned int i = 0; i < KSM_ORDER_PAGES; i++)
		if ((entry[i] & (KABI_PM_PRESENT | KABI_PM_FILE | KABI_PM_EXCLUSIVE)) ==
		    KABI_PM_PRESENT)
			shared |= pageset_bit(i);
	return shared & set;
}

uint64_t exclusive_zeros(const struct kit *k, const struct ksm_msg_order *m, uint64_t set)
{
	struct kabi_page_region v[KSM_ORDER_PAGES];
	struct kabi_pm_scan_arg scan = {
		.size = sizeof(scan),
		.start = m->addr,
		.end = order_page(m, KSM_ORDER_PAGES),
		.vec = (uintptr_t)v,
		.vec_len = KSM_ORDER_PAGES,
		.category_mask = KABI_PAGE_IS_PFNZERO,
		.return_mask = KABI_PAGE_IS_PFNZERO,
	};
	long n = set ? sysc3(SYS_ioctl, k->pagemap, KABI_PAGEMAP_SCAN, &scan) : 0;
	uint64_t zeros = 0;

	for (long i = 0; i < n; i++)
		zeros |= pageset_range((unsigned int)((v[i].start - m->addr) / KSM_PAGE_SIZE),
				       (unsigned int)((v[i].end - m->addr) / KSM_PAGE_SIZE));
	return zeros & set;
}

static bool is_huge(const struct kit *k, uint64_t addr)
{
	struct kabi_page_region v;
	struct kabi_pm_scan_arg scan = {
		.size = sizeof(scan),
		.start = addr,
		.end = addr + KSM_PAGE_SIZE,
		.vec = (uintptr_t)&v,
		.vec_len = 1,
		.category_mask = KABI_PAGE_IS_HUGE,
		.return_mask = KABI_PAGE_IS_HUGE,
	};

	return sysc3(SYS_ioctl, k->pagemap, KABI_PAGEMAP_SCAN, &scan) != 0;
}

/*
 * Would a write fault split a huge page for one of its pages? It does not where this process alone
 * maps the whole: the kernel keeps that as it is.
 */
static bool would_split(const struct kit *k, uint64_t addr)
{
	uint64_t entry[KSM_ORDER_PAGES];

	if (!is_huge(k, addr))
		return false;
	addr -= addr % (HUGE_PAGES * (uint64_t)KSM_PAGE_SIZE);
	for (unsigned int at = 0; at < HUGE_PAGES; at += KSM_ORDER_PAGES) {
		exclusive_pagemap(k, addr + at * (uint64_t)KSM_PAGE_SIZE, KSM_ORDER_PAGES, entry);
		for (unsigned int i = 0; i < KSM_ORDER_PAGES; i++)
			if (!(entry[i] & KABI_PM_EXCLUSIVE))
				return true;
	}
	return false;
}

/* Does page i hold now what its frame holds? The comparison that counts comes later. */
static bool looks_equal(const struct kit *k, const struct ksm_msg_order *m, unsigned int i)
{
	uint8_t *mine = k->buf, *frame = k->buf + KIT_ORDER_BYTES;

	if (!io_pread_all(k->mem, mine, KSM_PAGE_SIZE, order_page(m, i)))
		return false;
	if (m->frame[i] == KSM_FRAME_ZERO)
		return !mine[0] && !memcmp(mine, mine + 1, KSM_PAGE_SIZE - 1);
	return io_pread_all(k->arena, frame, KSM_PAGE_SIZE,
			    (uint64_t)m->frame[i] * KSM_PAGE_SIZE) &&
	       !memcmp(mine, frame, KSM_PAGE_SIZE);
}

uint64_t exclusive_make(const struct kit *k, const struct ksm_msg_order *m, uint64_t refused)
{
	uint64_t entry[KSM_ORDER_PAGES], made = 0;

	if (!refused)
		return 0;
	exclusive_pagemap(k, m->addr, KSM_ORDER_PAGES, entry);
	for (unsigned int i = 0; i < KSM_ORDER_PAGES; i++) {
		const uint64_t want = KABI_PM_PRESENT | KABI_PM_EXCLUSIVE;

		if (!(refused & pageset_bit(i)) || (entry[i] & (want | KABI_PM_FILE)) != want ||
		    !looks_equal(k, m, i) || would_split(k, order_page(m, i)))
			continue;
		if (!sysc3(SYS_madvise, order_page(m, i), KSM_PAGE_SIZE, MADV_POPULATE_WRITE))
			made |= pageset_bit(i);
	}
	return made;
}

static void arm(const struct kit *k, uint64_t start, uint64_t end)
{
	struct kabi_page_region v;
	struct kabi_pm_scan_arg scan = {
		.size = sizeof(scan),
		.flags = KABI_PM_SCAN_WP_MATCHING,
		.start = start,
		.end = end,
		.vec = (uintptr_t)&v,
		.vec_len = 1,
		.category_inverted = KABI_PAGE_IS_HUGE,
		.category_mask = KABI_PAGE_IS_WRITTEN | KABI_PAGE_IS_PRESENT | KABI_PAGE_IS_HUGE,
		.return_mask = KABI_PAGE_IS_WRITTEN,
	};

	sysc3(SYS_ioctl, k->pagemap, KABI_PAGEMAP_SCAN, &scan);
}

/* A store of the program in between goes unseen. The daemon reads the page when it tries again. */
void exclusive_arm(const struct kit *k, const struct ksm_msg_order *m, const uint8_t *result)
{
	uint64_t refused = 0;

	for (unsigned int i = 0; i < KSM_ORDER_PAGES; i++)
		if (result[i] == KSM_RES_BUSY || result[i] == KSM_RES_FORK_SHARED)
			refused |= pageset_bit(i);
	for (unsigned int i = 0, j; pageset_next(refused, &i, &j); i = j)
		arm(k, order_page(m, i), order_page(m, j));
}
