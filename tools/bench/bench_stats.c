/* SPDX-License-Identifier: MIT */
/*
 * bench_stats.c - medians and histograms.
 *
 * Stalls are counted in buckets of one sixteenth of a power of two, so that millions of samples fit
 * in 8 KiB and a 99.9th percentile is right to 6 %; the worst one is kept exactly.
 */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int bucket_of(uint64_t ns)
{
	int msb;

	if (ns < 16)
		return (int)ns;
	msb = 63 - __builtin_clzll(ns);
	return (msb - 3) * 16 + (int)((ns >> (msb - 4)) & 15);
}

/* Upper edge of a bucket. */
static double bucket_edge(int b)
{
	if (b < 16)
		return b;
	return ldexp(16 + b % 16 + 1, b / 16 - 1);
}

void hist_add(struct hist *h, uint64_t ns)
{
	h->bucket[bucket_of(ns)]++;
	h->nr++;
	if (ns > h->max)
		h->max = ns;
}

void hist_merge(struct hist *to, const struct hist *from)
{
	for (int i = 0; i < HIST_BUCKETS; i++)
		to->bucket[i] += from->bucket[i];
	to->nr += from->nr;
	if (from->max > to->max)
		to->max = from->max;
}

double hist_quantile(const struct hist *h, double q)
{
	uint64_t rank = (uint64_t)ceil(q * (double)h->nr), seen = 0;

	if (!h->nr)
		return NAN;
	for (int i = 0; i < HIST_BUCKETS; i++) {
		seen += h->bucket[i];
		if (seen >= rank)
			return fmin(bucket_edge(i), (double)h->max);
	}
	return (double)h->max;
}

/*
 * If touches are delayed by merging, rarely, and by other things (preemption) as often as the control
 * is, then P(touch > x) = P(control > x) + P(merging > x) but for touches that both hit. So the tail
 * of what merging does is the difference of the tails; the quantile is the largest x where it is above
 * 1 - q. Noise in the tail of the control can only make that smaller by what the control itself has.
 */
double hist_quantile_beyond(const struct hist *h, const struct hist *control, double q)
{
	uint64_t above = 0, above_control = 0;

	if (!h->nr || !control->nr)
		return NAN;
	for (int i = HIST_BUCKETS - 1; i > 0; i--) {
		above += h->bucket[i];
		above_control += control->bucket[i];
		if ((double)above / (double)h->nr - (double)above_control / (double)control->nr >
		    1 - q)
			return fmin(bucket_edge(i), (double)h->max);
	}
	return 0;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

struct summary series_summary(const struct series *s)
{
	struct summary sum = { NAN, NAN, NAN, 0 };
	double v[BENCH_MAX_ROUNDS];

	for (int i = 0; i < s->nr; i++)
		if (!isnan(s->v[i]))
			v[sum.nr++] = s->v[i];
	if (!sum.nr)
		return sum;
	qsort(v, (size_t)sum.nr, sizeof(*v), compare);
	sum.min = v[0];
	sum.max = v[sum.nr - 1];
	sum.median = (v[(sum.nr - 1) / 2] + v[sum.nr / 2]) / 2;
	return sum;
}

struct summary result_gain(const struct bench_result *r, enum metric m)
{
	const struct series *k = &r->series[SIDE_KERNEL][m], *u = &r->series[SIDE_USER][m];
	bool less = metric_info[m].better < 0;
	double mk = series_summary(k).median, mu = series_summary(u).median;
	struct series each = { .nr = k->nr < u->nr ? k->nr : u->nr };
	struct summary s;

	for (int i = 0; i < each.nr; i++) {
		double above = less ? k->v[i] : u->v[i], below = less ? u->v[i] : k->v[i];

		each.v[i] = below > 0 ? above / below : NAN;
	}
	s = series_summary(&each);
	if (s.nr)
		s.median = less ? mk / mu : mu / mk;
	if (!isfinite(s.median))
		s = (struct summary){ NAN, NAN, NAN, 0 };
	return s;
}

const struct metric_info metric_info[M_NR] = {
	[M_MERGE_S] = { "merge_s", "time to the last merge", "s", -1 },
	[M_CPU_S] = { "cpu_s", "CPU spent until then", "s", -1 },
	[M_REGISTER_MS] = { "register_ms", "registration, slowest client", "ms", -1 },
	[M_MERGED_PCT] = { "merged_pct", "merged, of what can be", "%", 1 },
	[M_REST_CPU_MS] = { "rest_cpu_ms", "CPU of one later pass", "ms", -1 },
	[M_SAVED_MIB] = { "saved_mib", "memory saved (PSS)", "MiB", 1 },
	[M_SAVED_NET_MIB] = { "saved_net_mib", "memory saved, net of metadata", "MiB", 1 },
	[M_SAVED_SYSTEM_MIB] = { "saved_system_mib", "memory saved, in use on the machine", "MiB",
				 1 },
	[M_VMAS] = { "vmas", "VMAs added per client", "", -1 },
	[M_REGION_VMAS] = { "region_vmas", "VMAs added in the memory that is merged, per client",
			    "", -1 },
	[M_PAGE_BYTES] = { "page_bytes", "metadata per tracked page that is not merged", "B", -1 },
	[M_COW_NS] = { "cow_ns", "write to a merged page (CoW break)", "ns", -1 },
	[M_DIRTY_NS] = { "dirty_ns", "rewrite of a page between passes", "ns", -1 },
	[M_LOAD_P999_US] = { "load_p999_us", "load while merging, 99.9 %", "us", -1 },
	[M_LOAD_MAX_US] = { "load_max_us", "load while merging, worst", "us", -1 },
	[M_LOAD_CONTROL_US] = { "load_control_us", "load, control, 99.9 %", "us", -1 },
	[M_LOAD_BEYOND_US] = { "load_beyond_us", "load beyond control, 99.9 %", "us", -1 },
	[M_STORE_P999_US] = { "store_p999_us", "store while merging, 99.9 %", "us", -1 },
	[M_STORE_MAX_US] = { "store_max_us", "store while merging, worst", "us", -1 },
	[M_STORE_CONTROL_US] = { "store_control_us", "store, control, 99.9 %", "us", -1 },
	[M_STORE_BEYOND_US] = { "store_beyond_us", "store beyond control, 99.9 %", "us", -1 },
	[M_CONTROL_MAX_US] = { "control_max_us", "load or store, control, worst", "us", -1 },
	[M_PROBES] = { "probes", "stores timed", "", 0 },
	[M_PROBE_GAP_MS] = { "probe_gap_ms", "longest time without a probe", "ms", 0 },
	[M_OTHERS_PCT] = { "others_pct", "CPU used by others while merging", "% of one", 0 },
	[M_PAGE_CPU_US] = { "page_cpu_us", "CPU per page, small", "us", -1 },
	[M_PAGE_WALL_US] = { "page_wall_us", "time per page, small", "us", -1 },
	[M_SIZE_CPU_US] = { "size_cpu_us", "CPU per page, 16 times the size", "us", -1 },
	[M_SIZE_WALL_US] = { "size_wall_us", "time per page, 16 times the size", "us", -1 },
	[M_FEW_CPU_US] = { "few_cpu_us", "CPU per page, 2 processes", "us", -1 },
	[M_FEW_WALL_US] = { "few_wall_us", "time per page, 2 processes", "us", -1 },
	[M_MANY_CPU_US] = { "many_cpu_us", "CPU per page, many processes of the same total", "us",
			    -1 },
	[M_MANY_WALL_US] = { "many_wall_us", "time per page, many processes of the same total",
			     "us", -1 },
	[M_GROW_SIZE_CPU] = { "grow_size_cpu", "CPU per page, 16 times the size / small", "x", -1 },
	[M_GROW_SIZE_WALL] = { "grow_size_wall", "time per page, 16 times the size / small", "x",
			       -1 },
	[M_GROW_MANY_CPU] = { "grow_many_cpu", "CPU per page, many processes / 2", "x", -1 },
	[M_GROW_MANY_WALL] = { "grow_many_wall", "time per page, many processes / 2", "x", -1 },
};
