/* SPDX-License-Identifier: MIT */
/*
 * vitals.h - how much a client's process may have changed of its memory, without a look at it.
 *
 * The kernel takes a fault for each page that a thread of the process uses for the first time, or
 * writes for the first time since change tracking has protected it, and counts it, also for what
 * KVM, io_uring or a system call write. One fault may bring a whole huge page, and then more pages
 * are resident. Both stand in /proc/PID/stat, which waits for no lock of the process. What another
 * process writes into it is not counted.
 */
#ifndef KSMD_VITALS_H
#define KSMD_VITALS_H

#include <stdint.h>
#include <sys/types.h>

/* Zero at first. One thread at a time. */
struct vitals {
	uint64_t resident; /* pages when it was asked last; 0: never */
	uint64_t moved;    /* pages by which that has gone up and down since */
};

/* Grows by as many pages as it may be, or more. 0: /proc does not show the process. */
uint64_t vitals_changes(struct vitals *v, pid_t pid);

#endif
