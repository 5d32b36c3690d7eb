/* SPDX-License-Identifier: MIT */
/*
 * ops_exclude.c - leave ranges out for a reason, or take them back into consideration.
 *
 * A program that locks memory, keeps it from children or hands it to a pipe relies on what only
 * private pages do. The reason is kept in the table, so that it also holds for memory that is
 * offered later.
 */
#include <errno.h>

#include "client/as_queue.h"
#include "client/as_ranges.h"
#include "client/client.h"
#include "client/ops.h"
#include "client/ops_learn.h"
#include "client/ops_process.h"
#include "client/ops_withdraw.h"

long ksmc_exclude(void *addr, size_t len, enum ksm_left_out reason)
{
	uint64_t start = (uintptr_t)addr, end = page_up(start + len);
	struct learned l = { .span = { start, end }, .end = start };
	struct as_guard g;

	if (start % KSM_PAGE_SIZE)
		return 0; /* the kernel refuses what the caller is about to ask for */
	if (ksmc_init() < 0)
		return -ENOMEM;
	if (!addr && !len) {
		ops_enter(&g);
		as.exclude_all = true;
		as_leave(&g);
		return ops_withdraw(0, KSM_ADDR_END, (int)reason);
	}
	if (end <= start)
		return 0;
	ops_enter(&g);
	ops_learn(&l);
	ops_leave(&g, false);
	return l.nomem ? -ENOMEM : ops_withdraw(start, end, (int)reason);
}

static void undo_reason(struct as_range *r, long why)
{
	r->left_out &= (uint16_t) ~(1u << why);
}

void ksmc_include(void *addr, size_t len, enum ksm_left_out reason)
{
	uint64_t start = (uintptr_t)addr, end = page_up(start + len);
	struct as_guard g;

	if (!atomic_load_explicit(&as.active, memory_order_relaxed) || start % KSM_PAGE_SIZE ||
	    (len && end <= start))
		return;
	ops_enter(&g);
	if (!addr && !len) {
		as.exclude_all = false;
		end = KSM_ADDR_END;
	}
	as_edit(start, end, undo_reason, reason);
	if (as_knows(start, end))
		as_event(KSM_MSG_ADD, start, end);
	ops_leave(&g, false);
}
