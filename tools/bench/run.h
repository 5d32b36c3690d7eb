/* SPDX-License-Identifier: MIT */
/* run.h - fresh processes on a fresh side, and what can be asked of the two together. */
#ifndef KSM_BENCH_RUN_H
#define KSM_BENCH_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "fleet.h"
#include "round.h"
#include "side.h"

struct corunner;

struct run {
	const struct bench_config *cfg;
	struct round *out;
	struct side side;
	struct fleet fleet;
	struct corunner *corunner;   /* NULL: none */
	bool real;                   /* the processes are real programs, not tenants */
	bool guests;                 /* these are guests of QEMU */
	bool open_end;               /* nobody knows beforehand how much will be merged */
	uint64_t nr_pages, expected; /* of a process; merged, of all */
	uint64_t merged;             /* pages, at the last merge; 0: not known */
	double merge_cpu_s;          /* spent until then; 0: not known */
};
/* Start the side, then the processes, filled and not registered. Undone by run_stop(). */
int run_start(struct run *r, const struct bench_config *cfg, int side, struct round *out);
void run_stop(struct run *r);
/* Pages that are merged now; zero pages count where the workload is about them. */
int run_merged(struct run *r, uint64_t *merged);
/*
 * CPU time of the side so far, ns, with that of the agents. Of many processes the agents count only
 * at the `end`: looking at them in every poll would cost too much.
 */
int run_cpu_ns(struct run *r, bool end, uint64_t *ns);
/* Whether the processes are too many for their agents to be looked at in every poll. */
bool run_is_large(const struct run *r);

#endif
