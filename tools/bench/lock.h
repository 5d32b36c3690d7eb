/* SPDX-License-Identifier: MIT */
/* lock.h - one ksm-bench at a time on a machine. */
#ifndef KSM_BENCH_LOCK_H
#define KSM_BENCH_LOCK_H

/*
 * Wait for the machine's lock, and keep it until exit. A watchdog (kernel.c) keeps it a little
 * longer. Returns 0, -EINTR when asked to stop, or another negative errno.
 */
int bench_lock(void);

#endif
