/* SPDX-License-Identifier: MIT */
/*
 * staging.c - see staging.h.
 *
 * It is the one range that is always registered for missing pages, and nobody answers for it.
 * mlockall(2) of the program wants to fill every mapping that can be accessed, and would wait there
 * for ever. So the area is accessible only in a transaction, and staging_close() wakes a thread
 * that ran into it to see that it no longer is.
 *
 * It must not stay locked either: pages move between mappings that are both locked or both not,
 * and locked memory is not ours to replace.
 */
#include "client/staging.h"

#include <sys/mman.h>

#include "client/exclusive.h"
#include "client/pageset.h"
#include "client/sysc.h"
#include "client/uffd.h"
#include "wire/kernel_abi.h"

bool staging_open(const struct kit *k)
{
	sysc2(SYS_munlock, k->staging, KIT_ORDER_BYTES);
	return sysc3(SYS_mprotect, k->staging, KIT_ORDER_BYTES, PROT_READ | PROT_WRITE) == 0;
}

void staging_close(const struct kit *k)
{
	sysc3(SYS_mprotect, k->staging, KIT_ORDER_BYTES, PROT_NONE);
	uffd_wake(k->uffd_sync, (uintptr_t)k->staging, (uintptr_t)k->staging + KIT_ORDER_BYTES);
}

/*
 * The page tables know. The kernel's own account of a partial UFFDIO_MOVE cannot be relied on.
 * Linux 6.18 moves in batches, and was seen to answer EEXIST with no bytes moved after it had moved
 * pages, where a fork shares the page behind them. (test_agent's raw forks lose pages when this is
 * not looked up.) Where the page map cannot be read mincore(2) answers, which does not know pages
 * that were swapped out since.
 */
uint64_t staging_pages(const struct kit *k)
{
	uint64_t entry[KSM_ORDER_PAGES], mask = 0;
	uint8_t core[KSM_ORDER_PAGES] = { 0 };

	if (!exclusive_pagemap(k, (uintptr_t)k->staging, KSM_ORDER_PAGES, entry)) {
		sysc3(SYS_mincore, k->staging, KIT_ORDER_BYTES, core);
		for (unsigned int i = 0; i < KSM_ORDER_PAGES; i++)
			mask |= (uint64_t)(core[i] & 1) << i;
		return mask;
	}
	for (unsigned int i = 0; i < KSM_ORDER_PAGES; i++)
		if (entry[i] & (KABI_PM_PRESENT | KABI_PM_SWAPPED))
			mask |= pageset_bit(i);
	return mask;
}

long staging_move(const struct kit *k, uint64_t dst, uint64_t src, unsigned int pages)
{
	struct kabi_uffdio_move mv = {
		.dst = dst,
		.src = src,
		.len = (uint64_t)pages * KSM_PAGE_SIZE,
		.mode = KABI_UFFDIO_MOVE_MODE_DONTWAKE,
	};

	return sysc3(SYS_ioctl, k->uffd_sync, KABI_UFFDIO_MOVE, &mv);
}
