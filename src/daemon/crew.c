/* SPDX-License-Identifier: MIT */
/*
 * crew.c - see crew.h.
 *
 * A job has a number. A helper that sees a new number takes part if its own is among those wanted,
 * and counts itself out when it is done; the job ends when the count is zero. The lock covers the
 * job, so a helper never sees parts of two.
 */
#include "daemon/crew.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <urcu.h>

#include "base/clock.h"
#include "base/guard.h"
#include "daemon/delay.h"

struct helper {
	struct crew *crew;
	pthread_t thread;
	unsigned int n; /* from 1 */
	uint64_t seen;  /* last job that it knows of */
};

struct crew {
	struct lock lock; /* covers what follows up to cpu_ns */
	pthread_cond_t start, done;
	uint64_t job;
	unsigned int wanted, busy; /* helpers of this job; those still at it */
	void (*fn)(void *arg, unsigned int n);
	void *arg;
	bool stop;

	_Atomic uint64_t cpu_ns;
	unsigned int most, nr; /* of the calling thread */
	struct helper helper[];
};

/* False: it is time to end. */
static bool wait_for_job(struct crew *c, struct helper *h) NEEDS(c->lock);
static bool wait_for_job(struct crew *c, struct helper *h)
{
	while (!c->stop && (c->job == h->seen || h->n > c->wanted)) {
		h->seen = c->job;
		pthread_cond_wait(&c->start, &c->lock.m);
	}
	h->seen = c->job;
	return !c->stop;
}

static void *helper_main(void *arg)
{
	struct helper *h = arg;
	struct crew *c = h->crew;

	rcu_register_thread();
	crew_nice();
	delay_begin();
	lock_take(&c->lock);
	while (wait_for_job(c, h)) {
		uint64_t cpu = clock_thread_cpu_ns();

		lock_give(&c->lock);
		c->fn(c->arg, h->n);
		c->cpu_ns += clock_thread_cpu_ns() - cpu;
		lock_take(&c->lock);
		if (!--c->busy)
			pthread_cond_signal(&c->done);
	}
	lock_give(&c->lock);
	delay_end();
	rcu_unregister_thread();
	return NULL;
}

struct crew *crew_new(unsigned int most)
{
	struct crew *c = calloc(1, sizeof(*c) + most * sizeof(c->helper[0]));

	if (!c)
		return NULL;
	c->most = most;
	lock_init(&c->lock);
	pthread_cond_init(&c->start, NULL);
	pthread_cond_init(&c->done, NULL);
	return c;
}

void crew_rest(struct crew *c)
{
	if (!c->nr)
		return;
	lock_take(&c->lock);
	c->stop = true;
	pthread_cond_broadcast(&c->start);
	lock_give(&c->lock);
	while (c->nr)
		pthread_join(c->helper[--c->nr].thread, NULL);
	c->stop = false;
}

void crew_free(struct crew *c)
{
	if (!c)
		return;
	crew_rest(c);
	pthread_cond_destroy(&c->done);
	pthread_cond_destroy(&c->start);
	lock_deinit(&c->lock);
	free(c);
}

/* Up to `want` helpers. */
static unsigned int enough(struct crew *c, unsigned int want)
{
	want = want < c->most ? want : c->most;
	while (c->nr < want) {
		struct helper *h = &c->helper[c->nr];

		*h = (struct helper){ .crew = c, .n = c->nr + 1, .seen = c->job };
		if (pthread_create(&h->thread, NULL, helper_main, h))
			break;
		pthread_setname_np(h->thread, "ksmd-scan");
		c->nr++;
	}
	return want < c->nr ? want : c->nr;
}

void crew_run(struct crew *c, unsigned int helpers, void (*fn)(void *arg, unsigned int n),
	      void *arg)
{
	unsigned int nr = enough(c, helpers);

	if (nr) {
		lock_take(&c->lock);
		c->fn = fn;
		c->arg = arg;
		c->wanted = c->busy = nr;
		c->job++;
		pthread_cond_broadcast(&c->start);
		lock_give(&c->lock);
	}
	fn(arg, 0);
	if (nr) {
		lock_take(&c->lock);
		while (c->busy)
			pthread_cond_wait(&c->done, &c->lock.m);
		lock_give(&c->lock);
	}
}

void crew_nice(void)
{
	/*
	 * Linux gives each thread its own nice value. A service started at a higher one keeps it.
	 */
	pid_t tid = (pid_t)syscall(SYS_gettid);

	if (getpriority(PRIO_PROCESS, (id_t)tid) < 5)
		setpriority(PRIO_PROCESS, (id_t)tid, 5);
}

uint64_t crew_cpu_ns(const struct crew *c)
{
	return c->cpu_ns;
}
