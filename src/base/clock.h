/* SPDX-License-Identifier: MIT */
/*
 * clock.h - times and deadlines of the monotonic clock, which nobody sets back.
 *
 * A deadline is a time of clock_ms(); CLOCK_NEVER is later than all others, so u64_min() finds the
 * earliest of several.
 */
#ifndef KSM_CLOCK_H
#define KSM_CLOCK_H

#include <stdint.h>
#include <time.h>

#include "base/span.h"

#define CLOCK_NEVER UINT64_MAX      /* a deadline that does not come */
#define CLOCK_LONGEST_WAIT_MS 60000 /* keeps timeouts far from the end of an int */

static inline uint64_t clock_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static inline uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* The time in `ms` from now, for waits that go by this clock. */
static inline struct timespec clock_in_ms(unsigned int ms)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	ts.tv_sec += ms / 1000;
	ts.tv_nsec += (long)(ms % 1000) * 1000000;
	ts.tv_sec += ts.tv_nsec / 1000000000;
	ts.tv_nsec %= 1000000000;
	return ts;
}

/* CPU time of the calling thread. */
static inline uint64_t clock_thread_cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/*
 * CPU time of all threads of a process, those that have ended included. 0: there is none of that
 * number here. The clock's number is what clock_getcpuclockid(3) returns, less a system call.
 */
static inline uint64_t clock_process_cpu_ns(pid_t pid)
{
	const int sched = 2; /* time on a CPU */
	struct timespec ts;

	if (pid <= 0 || clock_gettime((clockid_t)(~(unsigned int)pid << 3 | sched), &ts))
		return 0;
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/*
 * Timeout for epoll_wait() or poll(), in ms, at most CLOCK_LONGEST_WAIT_MS; -1 for CLOCK_NEVER.
 * When that time has passed the deadline has, too, except where the longest wait came first.
 */
static inline int clock_timeout(uint64_t due_ms)
{
	uint64_t now;

	if (due_ms == CLOCK_NEVER)
		return -1;
	now = clock_ms();
	return due_ms <= now ? 0 : (int)u64_min(due_ms - now, CLOCK_LONGEST_WAIT_MS);
}

#endif
