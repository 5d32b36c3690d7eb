/* SPDX-License-Identifier: MIT */
/*
 * advisor.h - choose pages_to_scan so that a pass takes a wished-for time.
 *
 * The kernel's scan-time advisor (mm/ksm.c, scan_time_advisor()) as a pure function: the caller has
 * the clock and stores the result.
 */
#ifndef KSM_ADVISOR_H
#define KSM_ADVISOR_H

#include <stdint.h>

#include "engine/knobs.h"

/* What the advisor remembers; its owner zeroes it when the operator switches the advisor on. */
struct advisor {
	uint64_t scan_time; /* s, of the pass before; 0: there was none */
	uint64_t change;    /* percent, smoothed; 0: there was none */
};

struct advisor_input {
	uint64_t scan_ms; /* from the start of the pass to its end */
	uint64_t cpu_ms;  /* CPU time that the scan thread used in it */
	uint64_t pages;   /* pages examined in it; 0: nothing to learn from */
};

/* New value of pages_to_scan, at least 1. It reads the knobs and does not write them. */
uint32_t advisor_pages_to_scan(struct advisor *a, const struct advisor_input *in,
			       const struct ksm_knobs *k);

#endif
