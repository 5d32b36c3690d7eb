/* SPDX-License-Identifier: MIT */
/* sample.h - what the daemon as a whole says at one time, and rates between two times. */
#ifndef KSMDCTL_SAMPLE_H
#define KSMDCTL_SAMPLE_H

#include <stdbool.h>
#include <stdint.h>

struct talk;

#define RATE_SAMPLE_MS 200 /* between two looks, for rates */

/* Counters of the group ksm/; pages unless the name says otherwise. */
struct sample {
	double at;  /* seconds, as now_seconds() */
	bool whole; /* false: sums over all users are not for us to see; run and clients are set */
	int64_t run, shared, sharing, unshared, unstable, zero, tracked;
	int64_t scanned, merged, full_scans, cpu_ns, cow_breaks;
	int64_t agent_ns; /* of all clients that there are */
	int64_t profit, metadata, added_vmas, frames_used, frames_retired, clients;
	int64_t debt, debt_limit; /* bytes; 0: no limit */
	int64_t held, nr_indebted;
};

struct rates {
	double scanned, merged; /* pages per second */
	double cpu_percent;     /* of the scan thread */
};

double now_seconds(void); /* of the monotonic clock */
void take_sample(struct talk *c, struct sample *s);
struct rates rates_between(const struct sample *a, const struct sample *b);

#endif
