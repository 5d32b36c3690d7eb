/* SPDX-License-Identifier: MIT */
/* thread.h - threads that may not end when they are told to. */
#ifndef KSM_BASE_THREAD_H
#define KSM_BASE_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <time.h>

/* False: the thread has not ended within `ms`, less than 1000, and can still be joined. */
static inline bool thread_join_within(pthread_t thread, unsigned int ms)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += (long)ms * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	return !pthread_timedjoin_np(thread, NULL, &until);
}

#endif
