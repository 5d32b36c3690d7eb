/* SPDX-License-Identifier: MIT */
/* runs_on.h - on which NUMA node a process's threads run. */
#ifndef KSMD_RUNS_ON_H
#define KSMD_RUNS_ON_H

#include <sys/types.h>

#include "numa/numa_topology.h"

#define RUNS_ON_THREADS 16

/*
 * The node on which most of the first `threads_max` threads of a process ran last, as /proc lists
 * them, running ones counted more; the agent's is none of them. -1: it is not known. 20 to 30 us of
 * CPU time for each thread. Any thread.
 */
int runs_on(struct numa_topology *t, pid_t pid, unsigned int threads_max);

#endif
