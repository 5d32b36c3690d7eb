/* SPDX-License-Identifier: MIT */
/*
 * ops_query.c - ksm_stat: the daemon's counts of this process, and what the tables say.
 *
 * A caller built against an older ksm.h has a shorter structure, and gets that much of it.
 */
#include <errno.h>
#include <string.h>

#include "base/span.h"
#include "client/as_ranges.h"
#include "client/client.h"
#include "client/mailbox.h"
#include "client/ops.h"
#include "client/ops_process.h"

long ksmc_stat(struct ksm_stat *st)
{
	struct ksm_msg_stat_reply r = { 0 };
	struct ksm_stat full = { .size = st ? st->size : 0 };
	struct as_guard g;
	uint64_t sigmask;
	int err;

	if (!st || st->size < 2 * sizeof(uint32_t))
		return -EINVAL;
	if (ksmc_init() < 0)
		return -ENOMEM;
	if (as_is_orphan())
		ops_start_over(true);
	mailbox_begin(&sigmask);
	err = mailbox_stat(&r);
	mailbox_end(&sigmask);
	if (err == -ETIMEDOUT)
		return err;
	full.connected = !err;
	full.refused = err ? atomic_load(&mailbox.refused) : 0;
	if (!err) {
		full.rmap_items = r.rmap_items;
		full.zero_pages = r.zero_pages;
		full.merging_pages = r.merging_pages;
		full.process_profit = r.process_profit;
	}
	ops_enter(&g);
	full.merge_any = as.merge_any;
	for (size_t i = 0; i < as.nr; i++)
		full.mergeable |= as_offered(&as.range[i]);
	as_leave(&g);
	memcpy(st, &full, u64_min(st->size, sizeof(full)));
	return 0;
}
