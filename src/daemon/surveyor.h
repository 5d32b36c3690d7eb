/* SPDX-License-Identifier: MIT */
/*
 * surveyor.h - a process of the daemon's that says on which NUMA nodes pages of clients lie.
 *
 * The kernel says so to those who may trace the process. The serving daemon has no such right and
 * should not (witness.h says why). So the surveyor, a process of its own, keeps CAP_SYS_PTRACE, and
 * can do one thing: take the number of a process with addresses, and answer what move_pages(2) says
 * of these. Whoever controls it learns which pages are present, and where, and no byte.
 *
 * There is one only on machines with several nodes, and only if the daemon was started with that
 * capability; otherwise the daemon asks itself, and gets an answer about processes that its user
 * could trace.
 */
#ifndef KSMD_SURVEYOR_H
#define KSMD_SURVEYOR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/guard.h"

/* Any thread may ask. */
struct surveyor {
	struct lock lock; /* a leaf: a question is answered before the next one is asked */
	int sock;         /* -1: there is none (any more) */
	uint32_t nr;      /* of the newest question */
	bool late;        /* its answer is owed, and not waited for any more */
};

/*
 * Starts the surveyor. Call it before the process has threads, and before what a child should not
 * have. Returns 0, -EPERM (no capability: there is none, and none is needed) or -errno.
 */
int surveyor_start(struct surveyor *s);
/* The surveyor ends. */
void surveyor_stop(struct surveyor *s);
/*
 * For numa_topology.query; `surveyor` is one that was started. nr <= NUMA_MAX_QUERY. Returns 0 or
 * -errno: -ENOTCONN (it is gone), -EAGAIN (it did not answer within two seconds; until it has, it
 * is not asked and nobody waits again), or the kernel's, as -ESRCH.
 */
int surveyor_query(void *surveyor, pid_t pid, void **page, int nr, int *status);

#endif
