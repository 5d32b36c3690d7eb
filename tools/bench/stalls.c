/* SPDX-License-Identifier: MIT */
/*
 * stalls.c - how long threads of the processes are stopped while merging goes on.
 *
 * Enough bursts come from all probers together for a 99.9th percentile within half a second; they
 * cost a fifth of a CPU. Each has a store to a page of its own, so that many pages are needed for
 * all of them to be merged again in time. As many processes get a prober as have them together.
 */
#include "stalls.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/span.h"
#include "progress.h"
#include "run.h"
#include "stop.h"

enum {
	BURSTS_PER_S = 20000,
	PROBED_PAGES = 32768,
	MIN_PROBERS = 2,
	STRIDE_MS = 200, /* after which every prober has begun, with its memory in place */
};

static int nr_probers(const struct run *r)
{
	uint64_t nr = (PROBED_PAGES + r->nr_pages - 1) / r->nr_pages;

	return (int)u64_min(u64_max(nr, MIN_PROBERS), (uint64_t)r->fleet.nr);
}

/* The same to all probers; with PROBE_STOP, what they have seen is added to *sum. */
static int probers(struct run *r, enum probe_op what, struct probes *sum)
{
	static struct tenant_reply reply;
	int nr = nr_probers(r), err = 0;
	uint32_t period_us = (uint32_t)(1000000 * nr / BURSTS_PER_S);

	for (int i = 0; i < nr && !err; i++) {
		err = fleet_command_one(&r->fleet, i, TENANT_PROBE, what | period_us << 8, &reply);
		if (err || !sum)
			continue;
		for (int h = 0; h < PROBE_NR; h++)
			hist_merge(&sum->hist[h], &reply.probes.hist[h]);
		sum->bursts += reply.probes.bursts;
		sum->gap_ns = u64_max(sum->gap_ns, reply.probes.gap_ns);
	}
	return err;
}

static void stalls_tell(const struct probes *sum, struct round *out)
{
	const struct hist *h = sum->hist;
	const struct hist *load = &h[PROBE_LOAD], *load_control = &h[PROBE_CONTROL_LOAD];
	const struct hist *store = &h[PROBE_STORE], *store_control = &h[PROBE_CONTROL_STORE];
	const struct {
		const char *key;
		double ns;
	} us[] = {
		{ "load_p999_us", hist_quantile(load, 0.999) },
		{ "load_max_us", (double)load->max },
		{ "load_control_us", hist_quantile(load_control, 0.999) },
		{ "load_beyond_us", hist_quantile_beyond(load, load_control, 0.999) },
		{ "store_p999_us", hist_quantile(store, 0.999) },
		{ "store_max_us", (double)store->max },
		{ "store_control_us", hist_quantile(store_control, 0.999) },
		{ "store_beyond_us", hist_quantile_beyond(store, store_control, 0.999) },
		{ "control_max_us", (double)u64_max(load_control->max, store_control->max) },
	};

	for (size_t i = 0; i < sizeof(us) / sizeof(us[0]); i++)
		round_value(out, us[i].key, us[i].ns / 1e3);
	round_value(out, "probes", (double)sum->bursts);
	round_value(out, "probe_gap_ms", (double)sum->gap_ns / 1e6);
}

int stalls_measure(struct run *r)
{
	static struct probes sum; /* too large for the stack */
	struct progress p;
	uint64_t start;
	int merge, err = fleet_command(&r->fleet, TENANT_REGISTER, 0, NULL, NULL);

	memset(&sum, 0, sizeof(sum));
	err = err ? err : probers(r, PROBE_START, NULL);
	err = err ? err : stop_sleep_ms(STRIDE_MS);
	err = err ? err : probers(r, PROBE_FORGET, NULL);
	start = clock_ns();
	err = err ? err : side_set(&r->side, "run", "1");
	/* Stores keep undoing merges, so all of them will never be reached. */
	merge = err ? err : progress_to_goal(r, start, r->expected * 3 / 4, true, &p);
	if (merge && merge != -ETIME)
		return merge;
	err = probers(r, PROBE_STOP, &sum);
	if (err)
		return err;
	stalls_tell(&sum, r->out);
	return merge;
}
