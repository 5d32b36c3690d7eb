/* SPDX-License-Identifier: MIT */
/* clock.h - the daemon's only clock: monotonic, never set back. */
#ifndef KSM_CLOCK_H
#define KSM_CLOCK_H

#include <stdint.h>
#include <time.h>

#define CLOCK_NEVER UINT64_MAX /* a deadline that does not come */

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

/* CPU time of the calling thread. */
static inline uint64_t clock_thread_cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline uint64_t clock_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Timeout for epoll_wait() until `due`: -1 for never, rounded so that it is not early. */
static inline int clock_timeout(uint64_t due)
{
	uint64_t now;

	if (due == CLOCK_NEVER)
		return -1;
	now = clock_ms();
	if (due <= now)
		return 0;
	return due - now > 60000 ? 60000 : (int)(due - now);
}

#endif
