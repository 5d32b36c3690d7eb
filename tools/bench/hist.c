/* SPDX-License-Identifier: MIT */
/*
 * hist.c - a histogram of nanoseconds.
 *
 * A bucket is a sixteenth of a power of two wide, so that millions of samples fit in 8 KiB and a
 * 99.9th percentile is right to 6 %. The worst sample is kept exactly.
 */
#include "hist.h"

#include <math.h>

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
 * Merging delays a few touches. Other causes, such as preemption, delay as many touches as they
 * delay of the control. Then P(touch > x) = P(control > x) + P(merging > x), except for touches
 * that both hit. So the tail of what merging does is the difference of the two tails, and the
 * quantile is the largest x at which it is above 1 - q. Noise in the control's tail can make the
 * result smaller only by as much as that tail holds.
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
