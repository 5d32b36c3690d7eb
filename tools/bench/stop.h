/* SPDX-License-Identifier: MIT */
/*
 * stop.h - the operator's wish to stop.
 *
 * A signal only sets a flag. Every wait looks at the flag and unwinds to main() with -EINTR, so
 * that one place puts the kernel's knobs back.
 */
#ifndef KSM_BENCH_STOP_H
#define KSM_BENCH_STOP_H

#include <signal.h>

extern volatile sig_atomic_t bench_stop; /* the signal that asks us to stop, or 0 */

/* Catch SIGINT, SIGTERM and SIGHUP, and ignore SIGPIPE. */
void stop_catch_signals(void);
/* Take the end of this socket for SIGHUP: nobody is left to measure for. */
void stop_at_hangup(int fd);
/* Sleep `ms` milliseconds. Returns 0, or -EINTR at once or early when asked to stop. */
int stop_sleep_ms(unsigned int ms);

#endif
