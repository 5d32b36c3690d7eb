/* SPDX-License-Identifier: MIT */
/*
 * ops_query.c - ksm_stat: the daemon's counts of this process, and what the tables say; ksm_merge:
 * how far its passes are.
 *
 * A caller built against an older ksm.h has a shorter structure, and gets that much of it.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/span.h"
#include "client/as_ranges.h"
#include "client/client.h"
#include "client/kit.h"
#include "client/mailbox.h"
#include "client/ops.h"
#include "client/ops_process.h"
#include "client/sysc.h"

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
	for (const struct as_range *i = as_first(0); i; i = as_next(i))
		full.mergeable |= as_offered(i);
	as_leave(&g);
	memcpy(st, &full, u64_min(st->size, sizeof(full)));
	return 0;
}

/* Every page is looked at in the first of these passes; what was written before, in the second. */
#define PASSES 2
#define POLL_MAX_MS 16
#define ANSWER_MS 2000

static void nap(uint64_t ms)
{
	struct timespec ts = { 0, (long)ms * 1000000 };

	sysc2(SYS_nanosleep, &ts, NULL);
}

/* One question. Returns 0 or -errno. */
static int ask_passes(struct ksm_msg_stat_reply *r, uint64_t left_ms)
{
	uint64_t sigmask;
	int err;

	mailbox_begin(&sigmask);
	err = mailbox_passes(r, (int)u64_min(left_ms, ANSWER_MS));
	mailbox_end(&sigmask);
	return err;
}

/*
 * The daemon keeps nothing for those who wait: they ask again and again. So it does not matter how
 * many wait, or whether they die meanwhile.
 */
static long await_passes(int timeout_ms)
{
	uint64_t until = kit_now_ms() + (uint64_t)timeout_ms, pass = 0, poll = 1;
	struct ksm_msg_stat_reply r = { 0 };

	for (;;) {
		uint64_t now = kit_now_ms();
		int err;

		if (now >= until)
			return -ETIMEDOUT;
		err = ask_passes(&r, until - now);
		if (err)
			return err;
		if (!r.merging)
			return -EAGAIN;
		/* Another daemon counts anew. */
		if (!pass || r.passes_begun + PASSES < pass)
			pass = r.passes_begun + PASSES;
		if (r.passes_done >= pass)
			return 0;
		nap(u64_min(poll, until - now));
		poll = u64_min(poll * 2, POLL_MAX_MS);
	}
}

long ksmc_merge(void *addr, size_t len, int timeout_ms)
{
	long r;

	if (timeout_ms < 0)
		return -EINVAL;
	r = ksmc_madvise(addr, len, MADV_MERGEABLE);
	if (r)
		return r;
	ksmc_connect_at_once();
	if (!mailbox_connected() && atomic_load(&mailbox.refused))
		return -(long)atomic_load(&mailbox.refused);
	return await_passes(timeout_ms);
}
