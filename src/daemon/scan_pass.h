/* SPDX-License-Identifier: MIT */
/*
 * scan_pass.h - passes over the memory of all domains: what is scanned when, by how many threads,
 * and how long to pause afterwards.
 *
 * The scan thread alone calls these. It sleeps for as long as they say (scan_thread.h).
 */
#ifndef KSMD_SCAN_PASS_H
#define KSMD_SCAN_PASS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/patience.h"
#include "daemon/polls.h"
#include "daemon/rest.h"
#include "daemon/scan_place.h"
#include "engine/advisor.h"

struct daemon;

struct scan_pass {
	struct daemon *d;
	const _Atomic bool *stop; /* workers look at it after each slice */
	struct crew *crew;
	unsigned int nr_cpus;
	struct scan_place place;
	_Atomic uint64_t cpu_ns, pause_ms; /* any thread reads them */

	bool under_way;
	uint64_t start_ms, start_cpu_ns, pages;
	uint64_t scanned; /* pages_scanned at the start */
	struct rest rest;
	uint64_t rested_cpu_ns, merged; /* CPU time, and pages_merged, when the last pass ended, */
	uint64_t agents_cpu_ns;         /* and that of the agents */
	uint64_t tracked;               /* pages, when it ended */
	uint64_t least_ms;              /* pause after the last pass that no client may shorten */
	uint64_t thread_ns;             /* CPU time of the thread when the pass began, */
	uint64_t stint_ns;              /* and when the stint is over; 0: there is none */
	int64_t left;                   /* of pages_to_scan, for the stints to come of this batch */
	uint64_t flushed_ms;            /* when all orders were sent last */
	uint64_t busy_ms;               /* when a pass last ended that read pages or left orders */

	struct polls polls; /* after a pass that left orders */
	uint64_t rest_ms;   /* when the pause after that pass is over */

	/* Passes that ended and are not counted yet, and the orders that they wait for. */
	uint64_t owed;
	struct patience patience; /* since the first of them ended; its orders since the last did */
	uint64_t given_up;        /* orders that nobody answers, for which no pass waits */

	struct advisor advisor;
	bool advising;
};

/* Returns 0 or -errno. *stop: end the slice of work that is under way and start no other. */
int scan_pass_init(struct scan_pass *p, struct daemon *d, const _Atomic bool *stop);
void scan_pass_deinit(struct scan_pass *p);

/*
 * The next step: a batch of pages, or a poll for answers. Returns for how long to sleep after it.
 */
uint64_t scan_pass_step(struct scan_pass *p);
/* There is something new to see: pause no longer than need be, and do not wait for answers. */
void scan_pass_hasten(struct scan_pass *p);
/* Forget all orders that were not sent; poll no more. Those under way are answered. */
void scan_pass_halt(struct scan_pass *p);
/* Orders under way, and pages that wait for one. */
uint64_t scan_pass_orders(const struct scan_pass *p);
/* Give the pass up: the next step begins another. */
void scan_pass_abandon(struct scan_pass *p);

#endif
