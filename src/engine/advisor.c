/* SPDX-License-Identifier: MIT */
/*
 * advisor.c - the scan-time advisor.
 *
 * When a pass took longer than the target, the advisor scans more pages per batch; when it took
 * less, fewer. The relation of this pass to the one before says where the work is heading. It is
 * smoothed (exponentially weighted moving average), so that one odd pass does not throw the rate
 * about. The CPU limit comes after that, the operator's minimum and maximum last. Arithmetic and
 * weights are the kernel's, with one difference: the first pass has no average to be smoothed with
 * and counts as it is.
 */
#include "base/span.h"
#include "base/usdt.h"
#include "engine/advisor.h"

#define EWMA_WEIGHT 30 /* percent that the newest value counts for */

static uint64_t ewma(uint64_t prev, uint64_t curr)
{
	return ((100 - EWMA_WEIGHT) * prev + EWMA_WEIGHT * curr) / 100;
}

static uint64_t at_least_1(uint64_t v)
{
	return v ? v : 1;
}

uint32_t advisor_pages_to_scan(struct advisor *a, const struct advisor_input *in,
			       const struct ksm_knobs *k)
{
	uint64_t now = at_least_1(knob_get(k, KNOB_PAGES_TO_SCAN));
	uint64_t min = knob_get(k, KNOB_ADVISOR_MIN_PAGES_TO_SCAN);
	uint64_t max = knob_get(k, KNOB_ADVISOR_MAX_PAGES_TO_SCAN);
	uint64_t scan_time, cpu_percent, factor, change, pages;

	if (!in->pages)
		return (uint32_t)now;
	scan_time = at_least_1(in->scan_ms / 1000);
	cpu_percent = at_least_1(in->cpu_ms * 100 / (scan_time * 1000));
	factor = at_least_1((uint64_t)knob_get(k, KNOB_ADVISOR_TARGET_SCAN_TIME) * 100 / scan_time);
	change = at_least_1(scan_time * 100 / (a->scan_time ? a->scan_time : scan_time));
	change = at_least_1(a->change ? ewma(a->change, change) : change);

	/* Bounded first: scan_time is a caller's figure and the products must not wrap. */
	pages = u64_min(now * 100 / factor, UINT32_MAX);
	pages = u64_min(pages * u64_min(change, UINT32_MAX) / 100, UINT32_MAX);
	pages = u64_min(pages, at_least_1(now / cpu_percent) * knob_get(k, KNOB_ADVISOR_MAX_CPU));
	pages = u64_min(u64_max(pages, min), max);
	pages = at_least_1(pages);
	a->scan_time = scan_time;
	a->change = change;
	USDT(ksm_advisor, scan_time, pages, (uint32_t)cpu_percent);
	return (uint32_t)pages;
}
