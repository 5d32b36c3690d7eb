/* SPDX-License-Identifier: MIT */
/*
 * undertaker.c - see undertaker.h.
 *
 * A domain can be freed when the RCU callbacks of its clients have run, and rcu_barrier(3)
 * takes 10 ms because liburcu's thread looks for callbacks so often. Three of them for each domain
 * kept the client thread from serving anybody for 5 s when 1,500 members of `--domain process`
 * ended at once, and SIGTERM took 36 s. So the thread here takes everything that has ended
 * meanwhile and waits once for all of it: its cost does not grow with the number.
 *
 * It is safe because what is handed over has no reference left. Nobody waits for this thread
 * except the end of the daemon.
 */
#include "daemon/undertaker.h"

#include <urcu.h>

void undertaker_init(struct undertaker *t)
{
	lock_init(&t->lock);
	pthread_cond_init(&t->wake, NULL);
	TAILQ_INIT(&t->list);
	t->started = t->stopping = false;
}

/* A callback may queue another: the last region of a client frees the client. */
static void wait_for_callbacks(void)
{
	rcu_barrier();
	rcu_barrier();
}

static void bury_all(struct undertakings *list)
{
	struct undertaking *u;

	wait_for_callbacks();
	while ((u = TAILQ_FIRST(list))) {
		TAILQ_REMOVE(list, u, link);
		u->bury(u);
	}
}

/* Waits for work; takes all of it. False: it is to stop and nothing is left. */
static bool next(struct undertaker *t, struct undertakings *list)
{
	lock_take(&t->lock);
	while (TAILQ_EMPTY(&t->list) && !t->stopping)
		pthread_cond_wait(&t->wake, &t->lock.m);
	TAILQ_INIT(list);
	TAILQ_CONCAT(list, &t->list, link);
	lock_give(&t->lock);
	return !TAILQ_EMPTY(list);
}

static void *thread_main(void *arg)
{
	struct undertaker *t = arg;
	struct undertakings list;

	rcu_register_thread();
	while (next(t, &list))
		bury_all(&list);
	rcu_unregister_thread();
	return NULL;
}

int undertaker_start(struct undertaker *t)
{
	int err = pthread_create(&t->thread, NULL, thread_main, t);

	if (err)
		return -err;
	pthread_setname_np(t->thread, "ksmd-bury");
	lock_take(&t->lock);
	t->started = true;
	lock_give(&t->lock);
	return 0;
}

void undertaker_take(struct undertaker *t, struct undertaking *u)
{
	bool queued;

	lock_take(&t->lock);
	queued = t->started;
	if (queued) {
		TAILQ_INSERT_TAIL(&t->list, u, link);
		pthread_cond_signal(&t->wake);
	}
	lock_give(&t->lock);
	if (queued)
		return;
	wait_for_callbacks();
	u->bury(u);
}

void undertaker_stop(struct undertaker *t)
{
	bool started;

	lock_take(&t->lock);
	t->stopping = true;
	started = t->started;
	pthread_cond_signal(&t->wake);
	lock_give(&t->lock);
	if (started)
		pthread_join(t->thread, NULL);
	pthread_cond_destroy(&t->wake);
	lock_deinit(&t->lock);
}
