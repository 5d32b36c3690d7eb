/* SPDX-License-Identifier: MIT */
/*
 * surveyor.h - a process of the daemon's that says on which NUMA nodes pages of clients lie.
 *
 * The kernel says so to those who may trace the process, which beside.h says the daemon may not.
 * The surveyor can do one thing: take the number of a process with addresses, and answer what
 * move_pages(2) says of these. Whoever controls it learns which pages are present, and where, and
 * no byte.
 *
 * There is one only on machines with several nodes, and only if the daemon was started with
 * CAP_SYS_PTRACE; otherwise the daemon asks itself, and gets an answer about processes that its
 * user could trace.
 */
#ifndef KSMD_SURVEYOR_H
#define KSMD_SURVEYOR_H

#include <sys/types.h>

#include "base/guard.h"
#include "daemon/beside.h"

/* Any thread may ask. */
struct surveyor {
	struct lock lock; /* a leaf: a question is answered before the next one is asked */
	struct beside beside;
};

/*
 * Starts the surveyor. Call it before the process has threads, and before what a child should not
 * have. Returns 0, -EPERM (no capability: there is none, and none is needed) or -errno.
 */
int surveyor_start(struct surveyor *s);
/* The surveyor ends. */
void surveyor_stop(struct surveyor *s);
/*
 * For numa_topology.query; `surveyor` is one that was started. nr <= NUMA_MAX_QUERY. Returns 0, an
 * error of beside_ask()'s, or the kernel's, as -ESRCH. The contents of status[] count only with 0.
 */
int surveyor_query(void *surveyor, pid_t pid, void **page, int nr, int *status);

#endif
