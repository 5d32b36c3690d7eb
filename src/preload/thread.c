/* SPDX-License-Identifier: MIT */
/*
 * thread.c - threads say when they are about to end.
 *
 * The kernel writes for a thread that ends, and the agent must not have pages in hand then
 * (leaving.h). So each thread gets a value of thread-specific data, whose destructor the C library
 * calls last of all. Threads that the C library makes for itself (timers, asynchronous lookups) are
 * not seen: their stacks are never offered, and they end without a mutex.
 */
#include "preload/thread.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <threads.h>

#include "client/client.h"
#include "preload/preload.h"

typedef int (*create_fn)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
typedef int (*thrd_create_fn)(thrd_t *, thrd_start_t, void *);

/* What a new thread is to run. */
struct start {
	union {
		void *(*fn)(void *);
		thrd_start_t thrd;
	} u;
	void *arg;
};

static void *next_create, *next_thrd_create;
static pthread_key_t key;
static bool have_key; /* set before there are threads */

static void ends(void *arg)
{
	(void)arg;
	ksmc_thread_ends();
}

void thread_resolve(void)
{
	preload_next(&next_create, "pthread_create");
	preload_next(&next_thrd_create, "thrd_create");
	have_key = preload_active() && !pthread_key_create(&key, ends);
}

/* Takes over the memory of `start`. */
static struct start begin(struct start *start)
{
	struct start s = *start;

	free(start);
	ksmc_thread_begins();
	pthread_setspecific(key, &key);
	return s;
}

static void *run(void *start)
{
	struct start s = begin(start);

	return s.u.fn(s.arg);
}

static int run_thrd(void *start)
{
	struct start s = begin(start);

	return s.u.thrd(s.arg);
}

EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
			  void *arg)
{
	create_fn real = (create_fn)preload_next(&next_create, "pthread_create");
	struct start *s;
	int r;

	if (!have_key || ksmc_is_agent((uintptr_t)fn))
		return real(thread, attr, fn, arg);
	s = malloc(sizeof(*s));
	if (!s)
		return EAGAIN;
	*s = (struct start){ { .fn = fn }, arg };
	r = real(thread, attr, run, s);
	if (r)
		free(s);
	return r;
}

EXPORT int thrd_create(thrd_t *thread, thrd_start_t fn, void *arg)
{
	thrd_create_fn real = (thrd_create_fn)preload_next(&next_thrd_create, "thrd_create");
	struct start *s;
	int r;

	if (!have_key)
		return real(thread, fn, arg);
	s = malloc(sizeof(*s));
	if (!s)
		return thrd_nomem;
	*s = (struct start){ { .thrd = fn }, arg };
	r = real(thread, run_thrd, s);
	if (r != thrd_success)
		free(s);
	return r;
}
