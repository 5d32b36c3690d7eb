/* SPDX-License-Identifier: MIT */
/*
 * mover.h - the thread that moves what stands on the frames of one NUMA node to another, in all
 * domains, or empties ranges of frames (drains.h).
 *
 * There is no thread until it is first asked for, and it sleeps while nothing is to be moved.
 */
#ifndef KSMD_MOVER_H
#define KSMD_MOVER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/guard.h"
#include "base/text.h"
#include "daemon/bell.h"
#include "daemon/compacts.h"
#include "daemon/drains.h"
#include "daemon/node_watch.h"
#include "daemon/steering.h"
#include "daemon/vacate.h"
#include "engine/engine.h"
#include "numa/numa_topology.h"

struct daemon;

struct mover {
	struct daemon *d;
	pthread_t thread;
	/* Under `lock`. The scan thread, too, may be the first to ask for something. */
	bool started, stopped;
	struct bell bell;
	struct drains drains;
	struct vacate vacate;
	struct node_watch watch;
	struct steering steering;
	struct compacts compacts;
	/* By the job's number (engine.h): node that it moves to, plus 1; or 0: there is none. */
	_Atomic int to[ENGINE_JOBS];
	struct lock lock; /* a leaf; covers all below, too */
	struct mover_counts {
		struct engine_migrated sum; /* since the start; `culprit` is the last one */
		uint32_t domain;            /* its domain */
		int pid;                    /* of culprit.client, 0 when it had gone */
	} done[ENGINE_JOBS];
	uint64_t twins_ms; /* the thread's alone: contents that meet are not merged before */
	pid_t client;      /* whose pages are being moved, or were last; their counts begin anew */
};

/*
 * All but mover_counts(), mover_want() and mover_rest() are for the main thread. Returns 0 or
 * -errno.
 */
int mover_init(struct mover *m, struct daemon *d);
void mover_deinit(struct mover *m);
/* Where there are several nodes the thread looks after them from here on. Returns 0 or -errno. */
int mover_watch(struct mover *m);
/* A knob has changed that says what it may do. */
void mover_look(struct mover *m);
/*
 * Ends the thread, if there is one; no other may be begun. What is under way stays as it is, and
 * whole: each page is on a frame of its contents.
 */
void mover_stop(struct mover *m);

/*
 * Begin to move what is on node `from` now. Returns 0, -ENXIO (there is no node `to`), -ENODEV (it
 * has no memory now), -EPERM (the daemon may not use it), -EHOSTDOWN (it is to be empty), -ELOOP
 * (it is the same), -EALREADY, -ENOMEM, or -errno (no thread); then nothing is moved.
 */
int mover_begin(struct mover *m, int from, int to);
/* The number of a node that somebody wrote; one too large there is none of. 0 or -EINVAL. */
static inline int mover_node_of(const char *value, int *nid)
{
	uint64_t n;
	int err = text_number(value, 10, &n);

	if (err == -EINVAL)
		return err;
	*nid = err || n > NUMA_MAX_NODES ? NUMA_MAX_NODES : (int)n;
	return 0;
}

/* Put back what has not moved yet. */
void mover_end(struct mover *m, int job);
/* As drains_begin(), drains_end(), drains_online(); mover_offline() or -errno: no thread. */
int mover_offline(struct mover *m, int nid, uint32_t first, uint32_t end);
void mover_offline_end(struct mover *m, int nid);
int mover_online(struct mover *m, int nid, uint32_t first, uint32_t end);
/* As drains_claim() and drains_claim_end(); the first or -errno: no thread. */
int mover_claim(struct mover *m, struct domain *d, int nid, const struct engine_claim *c);
void mover_claim_end(struct mover *m, struct domain *d, int nid);
void mover_claimed(struct mover *m, int nid, struct drains_node *out);
/*
 * Empty the node, and keep it empty: as vacate_begin(), or -EALREADY, too, if somebody moves what
 * lies there; or -errno: there is no thread. And the reverse.
 */
int mover_vacate(struct mover *m, int nid);
void mover_vacate_end(struct mover *m, int nid);
void mover_vacated(struct mover *m, int nid, struct vacate_node *out);
/* As compacts_begin(); or -errno: there is no thread. And the reverse. */
int mover_compact(struct mover *m, int nid);
void mover_compact_end(struct mover *m, int nid);
void mover_compacted(struct mover *m, int nid, struct compacts_node *out);
/* Scan thread: an engine may want it. It is looked at soon. */
void mover_want(struct mover *m);
/* Scan thread: merging rests, and frames may be worth gathering. */
void mover_rest(struct mover *m);
/* The range that is being taken out of use, or was last. */
void mover_drained(struct mover *m, int nid, struct drains_node *out);
/* What has become of the frames of a job. Returns the node to which it moves, or -1. */
int mover_counts(struct mover *m, int job, struct mover_counts *out);

/*
 * Begin to move to node `to` what the pages of a client stand on. Returns as mover_begin(); one at
 * a time. The caller has a reference on `mm`, or is in an RCU read section.
 */
int mover_begin_client(struct mover *m, pid_t pid, struct mm_slot *mm, int to);
/* Put back what has not moved yet of this client's. */
void mover_end_client(struct mover *m, pid_t pid);
/* The same as mover_counts() of the last move of this client's pages; -ENOENT: there was none. */
int mover_counts_client(struct mover *m, pid_t pid, struct mover_counts *out);

#endif
