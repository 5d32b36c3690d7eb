/* SPDX-License-Identifier: MIT */
/* prober.h - a thread that feels what merging does to a program's own threads. */
#ifndef KSM_BENCH_PROBER_H
#define KSM_BENCH_PROBER_H

#include <stdint.h>
#include <sys/types.h>

#include "hist.h"

/* What a prober times: memory that is merged, and control memory that is not. */
enum probe { PROBE_LOAD, PROBE_STORE, PROBE_CONTROL_LOAD, PROBE_CONTROL_STORE, PROBE_NR };

struct probes {
	struct hist hist[PROBE_NR];
	uint64_t bursts; /* each has one store */
	uint64_t gap_ns; /* longest time without a burst */
};

struct prober;
/*
 * Start a thread that touches `nr_pages` pages at mem in bursts, one every `period_ns` on average.
 * `seed` makes the probers of several processes differ. Returns 0 or an errno.
 */
int prober_start(struct prober **p, unsigned char *mem, uint64_t nr_pages, uint32_t period_ns,
		 uint32_t seed);
/* Drop what it has seen so far. p may be NULL. */
void prober_forget(struct prober *p);
/* End it, and take what it has seen. Does nothing when *p is NULL, and sets it to NULL. */
void prober_stop(struct prober **p, struct probes *seen);
/* Its thread; 0 while there is none. */
pid_t prober_tid(struct prober *p);

#endif
