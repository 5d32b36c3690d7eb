/* SPDX-License-Identifier: MIT */
/* corunner.h - a server that has nothing to do with merging, and shares the machine with it. */
#ifndef KSM_BENCH_CORUNNER_H
#define KSM_BENCH_CORUNNER_H

#include <stdint.h>

#include "hist.h"

struct corunner;
/*
 * Start a redis-server that no side merges, and give it its data. Returns 0 or a negative errno,
 * which has been said. Undone by corunner_stop().
 */
int corunner_start(struct corunner **c);
void corunner_stop(struct corunner **c);
/* Begin to ask it, from a thread of this process. Returns 0 or a negative errno. */
int corunner_ask(struct corunner *c);
/*
 * End that, and tell how long the answers took, from the time at which each question was due.
 * Returns 0, or a negative errno when an answer was wrong or did not come.
 */
int corunner_told(struct corunner *c, struct hist *h);
/* CPU time of the server and of who asks, ns. 0 when c is NULL. */
uint64_t corunner_cpu_ns(const struct corunner *c);

#endif
