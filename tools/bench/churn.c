/* SPDX-License-Identifier: MIT */
/*
 * churn.c - a thread that rewrites pages for ever, as programs do with what they work on.
 *
 * Half a second for all pages is about what one pass over the workload takes on either side, so
 * that nearly all of them have changed when a pass comes back to them, and yet the writing takes
 * less than a tenth of a CPU in all processes together. The thread writes in slices of 10 ms by an
 * absolute clock; a slice that is overdue is not made up for.
 */
#include "churn.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

enum { CHURN_MS = 500, SLICE_MS = 10 };

struct churn {
	void (*rewrite)(void *arg, uint64_t page);
	void *arg;
	uint64_t nr_pages;
	pthread_t thread;
	atomic_bool stop;
	atomic_int tid;
};

static void *churn_main(void *arg)
{
	struct churn *c = arg;
	uint64_t page = 0, due = clock_ns(),
		 slice = (c->nr_pages * SLICE_MS + CHURN_MS - 1) / CHURN_MS;

	atomic_store(&c->tid, (int)syscall(SYS_gettid));
	while (!atomic_load(&c->stop)) {
		struct timespec ts;

		for (uint64_t i = 0; i < slice; i++) {
			c->rewrite(c->arg, page);
			page = (page + 1) % c->nr_pages;
		}
		due += SLICE_MS * 1000000ull;
		if (due < clock_ns())
			due = clock_ns();
		ts.tv_sec = (time_t)(due / 1000000000);
		ts.tv_nsec = (long)(due % 1000000000);
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
	}
	return NULL;
}

int churn_start(struct churn **out, void (*rewrite)(void *arg, uint64_t page), void *arg,
		uint64_t nr_pages)
{
	struct churn *c = calloc(1, sizeof(*c));
	int err;

	if (!c)
		return ENOMEM;
	c->rewrite = rewrite;
	c->arg = arg;
	c->nr_pages = nr_pages;
	err = pthread_create(&c->thread, NULL, churn_main, c);
	if (err) {
		free(c);
		return err;
	}
	*out = c;
	return 0;
}

void churn_stop(struct churn **out)
{
	struct churn *c = *out;

	if (!c)
		return;
	*out = NULL;
	atomic_store(&c->stop, true);
	pthread_join(c->thread, NULL);
	free(c);
}

pid_t churn_tid(struct churn *c)
{
	return c ? atomic_load(&c->tid) : 0;
}
