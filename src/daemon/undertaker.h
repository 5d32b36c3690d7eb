/* SPDX-License-Identifier: MIT */
/*
 * undertaker.h - frees what ends after its last RCU callback, on a thread that serves nobody.
 */
#ifndef KSMD_UNDERTAKER_H
#define KSMD_UNDERTAKER_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/queue.h>

#include "base/guard.h"

/* Embedded in what ends; it stands in one undertaker's list at most. */
struct undertaking {
	void (*bury)(struct undertaking *u);
	TAILQ_ENTRY(undertaking) link;
};

/* Invariant: `list` is empty while no thread is started, and after undertaker_stop(). */
struct undertaker {
	struct lock lock; /* covers everything but `thread` */
	pthread_cond_t wake;
	TAILQ_HEAD(undertakings, undertaking) list;
	bool started, stopping;
	pthread_t thread;
};

void undertaker_init(struct undertaker *t);
/* Returns 0 or -errno. Until then undertaker_take() does the work itself. */
int undertaker_start(struct undertaker *t);
/*
 * Take over u, of which nobody else knows any more. u->bury() runs when all RCU callbacks queued
 * until now, and those that they queued, have run. With a started thread it waits for nothing and
 * may be called from any context; without one, not from an RCU read section or callback.
 */
void undertaker_take(struct undertaker *t, struct undertaking *u);
/* Buries what is left and ends the thread. Nobody may call undertaker_take() any more. */
void undertaker_stop(struct undertaker *t);

#endif
