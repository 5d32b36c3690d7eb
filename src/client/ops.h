/* SPDX-License-Identifier: MIT */
/*
 * ops.h - what all wrappers of system calls share: they take the lock, and the tables follow.
 *
 * A wrapper lives in the room that is named after what the call does:
 *
 *	ops_map.c       mmap, munmap, mprotect, brk
 *	ops_remap.c     mremap
 *	ops_advise.c    madvise; ops_discard.c for advice that throws contents away
 *	ops_bind.c      mbind
 *	ops_exclude.c   ranges that are left out for a reason, such as mlock
 *	ops_splice.c    vmsplice
 *	ops_uffd.c      ioctl of a userfaultfd of the program's own
 *	ops_policy.c    what is offered without being asked: prctl, ksm-run, the heap
 *	ops_process.c   first use, forks, the start of the agent
 *	ops_query.c     ksm_stat, ksm_merge
 *
 * ops_learn.h and ops_withdraw.h are the two ways of a range: into the table, and off its frames.
 */
#ifndef KSM_OPS_H
#define KSM_OPS_H

#include <stdbool.h>
#include <stdint.h>

#include "client/as.h"

/* A forked child starts over, first the tables, then the agent. `raw`: see agent_reset_child(). */
void ops_start_over(bool raw);

/* Take the lock; in a raw child, start over first. */
void ops_enter(struct as_guard *g) TAKES(as.lock);
/*
 * Give the lock back, and wake the agent where it has something to tell. `offered`: memory was
 * offered, so start the agent. Returns 0, or -ENOMEM: it cannot be started.
 */
int ops_leave(struct as_guard *g, bool offered) GIVES(as.lock);

/* Forget [start, end), which is no longer what it was, and have the daemon forget it. */
void ops_forget(uint64_t start, uint64_t end) NEEDS(as.lock);
/*
 * Put zeros where frames stand in [start, end). Returns 0, or -ENOMEM: frames from some address on
 * still stand. Those below it are zeros.
 */
long ops_empty_frames(uint64_t start, uint64_t end) NEEDS(as.lock);

#endif
