/* SPDX-License-Identifier: MIT */
/*
 * bench_targets.c - what ksmd-user has to show against the kernel's KSM, and whether it does.
 *
 * A side that merged less has less to do. So a gain in time or CPU only counts where ksmd-user merged at
 * least nine tenths of what the kernel did, and a workload that did not come to its end reaches nothing.
 */
#include "bench.h"

#include <string.h>

static const double MERGED_ENOUGH = 0.9;
/* Of so many stores, five are beyond the 99.9th percentile (and twenty of the loads). */
static const double PROBES_ENOUGH = 5000;

const struct target targets[] = {
	{ "clones", M_MERGE_S, TIMES_BETTER, 6 },
	{ "clones", M_CPU_S, TIMES_BETTER, 5 },
	{ "permuted", M_MERGE_S, TIMES_BETTER, 3 },
	{ "permuted", M_CPU_S, TIMES_BETTER, 2.5 },
	{ "scattered", M_MERGE_S, TIMES_BETTER, 3 },
	{ "scattered", M_CPU_S, TIMES_BETTER, 2.5 },
	{ "zero", M_MERGE_S, TIMES_BETTER, 5 },
	{ "zero", M_REGION_VMAS, AT_MOST, 0 },
	{ "clones", M_REST_CPU_MS, TIMES_BETTER, 50 },
	{ "unique", M_REST_CPU_MS, TIMES_BETTER, 200 },
	{ "dirty", M_REST_CPU_MS, TIMES_BETTER, 20 },
	{ NULL, M_REST_CPU_MS, TIMES_BETTER, 1 },
	{ "clones", M_SAVED_NET_MIB, TIMES_BETTER, 0.97 },
	{ "zero", M_SAVED_NET_MIB, TIMES_BETTER, 0.97 },
	{ "permuted", M_SAVED_NET_MIB, TIMES_BETTER, 0.9 },
	{ "scattered", M_SAVED_NET_MIB, TIMES_BETTER, 0.9 },
	{ "huge", M_SAVED_NET_MIB, TIMES_BETTER, 1 },
	{ NULL, M_COW_NS, TIMES_BETTER, 1 },
	{ NULL, M_LOAD_P999_US, TIMES_BETTER, 1 },
	{ NULL, M_STORE_P999_US, TIMES_BETTER, 1 },
	{ "unique", M_PAGE_BYTES, AT_MOST, 24 },
	{ "growth", M_GROW_SIZE_CPU, AT_MOST, 1.2 },
	{ "growth", M_GROW_SIZE_WALL, AT_MOST, 1.2 },
	{ "growth", M_GROW_MANY_CPU, AT_MOST, 1.3 },
	{ "growth", M_GROW_MANY_WALL, AT_MOST, 1.3 },
};
const int nr_targets = sizeof(targets) / sizeof(targets[0]);

static bool measured(const struct bench_result *r, enum metric m)
{
	return series_summary(&r->series[SIDE_KERNEL][m]).nr ||
	       series_summary(&r->series[SIDE_USER][m]).nr;
}

const struct target *target_find(const struct bench_result *r, enum metric m)
{
	const struct target *any = NULL;

	for (int i = 0; i < nr_targets; i++) {
		if (targets[i].metric != m)
			continue;
		if (!targets[i].workload)
			any = &targets[i];
		else if (!strcmp(targets[i].workload, r->workload))
			return &targets[i];
	}
	return any;
}

/* One that is meant for all concerns only those for which there is none of their own. */
bool target_concerns(const struct target *t, const struct bench_result *r)
{
	if (*r->skipped || target_find(r, t->metric) != t)
		return false;
	return t->workload || measured(r, t->metric);
}

static double median(const struct bench_result *r, int side, enum metric m)
{
	return series_summary(&r->series[side][m]).median;
}

static bool takes_time(enum metric m)
{
	return m == M_MERGE_S || m == M_CPU_S;
}

static double probes(const struct bench_result *r)
{
	double k = median(r, SIDE_KERNEL, M_PROBES), u = median(r, SIDE_USER, M_PROBES);

	return u < k ? u : k;
}

struct verdict target_check(const struct target *t, const struct bench_result *r)
{
	struct verdict v = { .holds = VERDICT_UNKNOWN };
	double merged = median(r, SIDE_USER, M_MERGED_PCT),
	       kernel = median(r, SIDE_KERNEL, M_MERGED_PCT);
	bool enough = !(merged < kernel * MERGED_ENOUGH); /* true where one is not known */

	v.seen = t->kind == AT_MOST ? series_summary(&r->series[SIDE_USER][t->metric]) :
				      result_gain(r, t->metric);
	if (v.seen.nr && t->kind == AT_MOST)
		v.holds = v.seen.median <= t->wanted ? VERDICT_YES : VERDICT_NO;
	else if (v.seen.nr)
		v.holds = v.seen.median >= t->wanted ? VERDICT_YES : VERDICT_NO;
	if (takes_time(t->metric) && r->incomplete[SIDE_USER]) {
		v.holds = VERDICT_NO;
		snprintf(v.why, sizeof(v.why), "did not end");
	} else if (takes_time(t->metric) && !enough) {
		v.holds = VERDICT_NO;
		snprintf(v.why, sizeof(v.why), "merged only %.0f %%", merged);
	} else if (t->metric == M_STORE_P999_US && probes(r) < PROBES_ENOUGH) {
		v.holds = VERDICT_UNKNOWN;
		snprintf(v.why, sizeof(v.why), "only %.0f stores timed", probes(r));
	} else if (!v.seen.nr) {
		snprintf(v.why, sizeof(v.why), "%s",
			 r->incomplete[SIDE_KERNEL] ? "the kernel did not end" : "not measured");
	}
	return v;
}
