/* SPDX-License-Identifier: MIT */
/*
 * readers.h - on which NUMA node each client's threads run, sampled.
 *
 * The kernel says on which CPU a thread ran last (/proc/PID/task/TID/stat). Where most of a
 * client's threads run, running ones counted more, is where its pages are taken to be read from.
 * It is an estimate: nobody counts what a thread reads. A process whose threads are spread over
 * nodes counts for one of them. One thread looks at a few clients at a time, so it costs a bounded
 * share of a core, however many there are. On a machine with one node nobody is looked at.
 */
#ifndef KSMD_READERS_H
#define KSMD_READERS_H

#include <stdint.h>
#include <sys/types.h>

#include "daemon/clients.h"
#include "numa/numa_topology.h"

struct readers {
	pid_t *pid; /* clients of the round under way; NULL: none is */
	unsigned int nr, next;
	bool moved; /* one of them runs elsewhere than before, or there were others */
	uint64_t pause_ms, due_ms;
	uint64_t hurry_ms; /* when it is due for who is in a hurry; not after due_ms */
};

/*
 * Look at some clients, if that is due, and tell the engine. hurry: frames go where their readers
 * are, so a round begins twice a second. Else counters alone would know, and rounds come ever less
 * often while nobody moves. The calling thread is registered with liburcu. Returns when it is due
 * again, in ms.
 */
uint64_t readers_step(struct readers *r, struct clients *c, struct numa_topology *t, bool hurry);
void readers_deinit(struct readers *r);

#endif
