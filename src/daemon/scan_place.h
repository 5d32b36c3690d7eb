/* SPDX-License-Identifier: MIT */
/*
 * scan_place.h - on which NUMA node's CPUs each scan thread runs.
 *
 * A scan thread reads clients' memory, and keeps records of it. Both are near while it stays on the
 * CPUs of one node. So on a machine with several nodes each worker (engine.h) has a node. Nodes
 * without memory have none; the worker of a node without CPUs runs on those of the nearest node
 * that has some. On one node nothing here does anything.
 *
 * Only CPUs count that the main thread may use, which is never bound. So a cpuset, taskset(1) on
 * the daemon and CPUs that come or go are respected whenever they change.
 */
#ifndef KSMD_SCAN_PLACE_H
#define KSMD_SCAN_PLACE_H

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/engine.h"
#include "numa/numa_topology.h"

struct scan_place {
	struct numa_topology *topology;
	/* The scan thread's; helpers read it while they are in a job. */
	cpu_set_t allowed; /* CPUs of the main thread, when the workers were dealt out last */
	uint64_t due_ms;   /* when they are dealt out again, whatever has changed */
	uint32_t seq;      /* counts that; 0: not yet */
	int8_t nid[ENGINE_WORKERS];
	/* Of worker n, touched by its thread alone: who was bound last, to which deal. */
	struct scan_place_bound {
		pid_t tid;
		uint32_t seq;
	} bound[ENGINE_WORKERS];
	_Atomic int8_t at[ENGINE_WORKERS]; /* its node; -1: not bound. Any thread reads it */
};

void scan_place_init(struct scan_place *p, struct numa_topology *t);
/* Scan thread, with no helper in a job: see whether something has changed. A system call. */
void scan_place_look(struct scan_place *p, uint64_t now_ms);
/*
 * The calling thread is this worker: bind it, if it is not bound as it should be. Returns the
 * worker's node, or -1: any.
 */
int scan_place_bind(struct scan_place *p, unsigned int worker);
/* Scan thread: the helpers have ended. */
void scan_place_rest(struct scan_place *p);
/* Scan threads that are bound to this node. Any thread. */
unsigned int scan_place_nr(const struct scan_place *p, int nid);

/*
 * The CPUs on which a scan thread of node `nid` runs, of those in *allowed: the node's own, or
 * those of the nearest node that has some. None if no node has. Any thread.
 */
void scan_place_cpus(struct numa_topology *t, const cpu_set_t *allowed, int nid, cpu_set_t *out);
/* CPUs that the main thread may use. False: not known. */
bool scan_place_allowed(cpu_set_t *out);

#endif
