/* SPDX-License-Identifier: MIT */
/* hist.h - a histogram of nanoseconds. */
#ifndef KSM_BENCH_HIST_H
#define KSM_BENCH_HIST_H

#include <stdint.h>

#define HIST_BUCKETS 1024
struct hist {
	uint64_t nr, max; /* nr is the sum of all buckets */
	uint64_t bucket[HIST_BUCKETS];
};
void hist_add(struct hist *h, uint64_t ns);
void hist_merge(struct hist *to, const struct hist *from);
/* The time, in ns, that the share q of all samples does not exceed; NAN when there are none. */
double hist_quantile(const struct hist *h, double q);
/* The same of the delays that `h` has beyond `control`; 0 when it has none. */
double hist_quantile_beyond(const struct hist *h, const struct hist *control, double q);

#endif
