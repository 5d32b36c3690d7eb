/* SPDX-License-Identifier: MIT */
/* series.c - the median of rounds. */
#include "series.h"

#include <math.h>
#include <stdlib.h>

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
