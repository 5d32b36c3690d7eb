/* SPDX-License-Identifier: MIT */
/*
 * thread.c - threads say when they are about to end.
 *
 * The kernel writes for a thread that ends, and the agent must not have pages in hand then
 * (leaving.h). So each thread gets a value of thread-specific data, whose destructor the C library
 * calls last of all. Threads that the C library makes for itself (timers, asynchronous lookups) are
 * not seen: their stacks are never offered, and they end without a mutex.
 *
 * What a new thread is to run waits for it in a slot. It must not come from malloc: a thread that
 * the program keeps away from malloc would hold its lock when another copies the process by a raw
 * clone(2), and the child would wait for it for ever.
 */
#include "preload/thread.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <threads.h>

#include "client/client.h"
#include "preload/occasion.h"
#include "preload/preload.h"

typedef int (*create_fn)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
typedef int (*thrd_create_fn)(thrd_t *, thrd_start_t, void *);

/* Threads that have been made and do not run yet. One more is made unseen. */
#define SLOTS 256

/* What a new thread is to run. */
struct start {
	/* The process that makes the thread; 0: none. A child inherits slots without a use. */
	_Atomic int32_t pid;
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

static struct start slots[SLOTS];

/* Returns a slot for the caller to fill, or NULL: all are in use. */
static struct start *take_slot(void)
{
	int32_t pid = (int32_t)sysc0(SYS_getpid);

	for (int i = 0; i < SLOTS; i++) {
		int32_t seen = atomic_load_explicit(&slots[i].pid, memory_order_relaxed);

		if (seen != pid && atomic_compare_exchange_strong(&slots[i].pid, &seen, pid))
			return &slots[i];
	}
	return NULL;
}

static void give_slot_back(struct start *s)
{
	atomic_store_explicit(&s->pid, 0, memory_order_release);
}

static void begin(void)
{
	ksmc_thread_begins();
	pthread_setspecific(key, &key);
}

static void *run(void *start)
{
	struct start *s = start;
	void *(*fn)(void *) = s->u.fn;
	void *arg = s->arg;

	give_slot_back(s);
	begin();
	return fn(arg);
}

static int run_thrd(void *start)
{
	struct start *s = start;
	thrd_start_t fn = s->u.thrd;
	void *arg = s->arg;

	give_slot_back(s);
	begin();
	return fn(arg);
}

EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
			  void *arg)
{
	create_fn real = (create_fn)preload_next(&next_create, "pthread_create");
	struct start *s = NULL;
	int r;

	if (!ksmc_is_agent((uintptr_t)fn))
		occasion();

	if (have_key && preload_active() && !ksmc_is_agent((uintptr_t)fn))
		s = take_slot();
	if (!s)
		return real(thread, attr, fn, arg);
	s->u.fn = fn;
	s->arg = arg;
	r = real(thread, attr, run, s);
	if (r)
		give_slot_back(s);
	return r;
}

EXPORT int thrd_create(thrd_t *thread, thrd_start_t fn, void *arg)
{
	thrd_create_fn real = (thrd_create_fn)preload_next(&next_thrd_create, "thrd_create");
	struct start *s = NULL;
	int r;

	occasion();
	if (have_key && preload_active())
		s = take_slot();
	if (!s)
		return real(thread, fn, arg);
	s->u.thrd = fn;
	s->arg = arg;
	r = real(thread, run_thrd, s);
	if (r != thrd_success)
		give_slot_back(s);
	return r;
}
