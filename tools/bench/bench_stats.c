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
	[M_VMAS] = { "vmas", "mappings added", "", -1 },
	[M_COW_NS] = { "cow_ns", "write to a merged page (CoW break)", "ns", -1 },
	[M_DIRTY_NS] = { "dirty_ns", "rewrite of a page between passes", "ns", -1 },
	[M_LOAD_P999_US] = { "load_p999_us", "load while merging, 99.9 %", "us", -1 },
	[M_LOAD_MAX_US] = { "load_max_us", "load while merging, worst", "us", -1 },
	[M_STORE_P999_US] = { "store_p999_us", "store while merging, 99.9 %", "us", -1 },
	[M_STORE_MAX_US] = { "store_max_us", "store while merging, worst", "us", -1 },
};
