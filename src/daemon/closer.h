/* SPDX-License-Identifier: MIT */
/*
 * closer.h - closes what clients passed, on threads that serve nobody.
 *
 * What a client passed is charged to its user until it is closed.
 */
#ifndef KSMD_CLOSER_H
#define KSMD_CLOSER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "base/guard.h"
#include "daemon/account.h"

/* What is to be closed. */
enum closer_kind {
	CLOSER_SOCKET,   /* a connection that we accepted: hung up, drained, closed; at once if it
			  * brought no descriptors that nobody read */
	CLOSER_LISTENER, /* whose connections were not all accepted */
	CLOSER_STRANGE,  /* anything that a client passed and nobody had asked for */
	CLOSER_KINDS
};

struct closing;
TAILQ_HEAD(closings, closing);

/* Invariant: a closing stands in `queue` until a thread takes it, in `busy` until it is closed. */
struct closer {
	struct lock lock; /* covers everything but `foreman` and `accounts` */
	pthread_cond_t work, attention;
	struct closings queue, busy;
	unsigned int nr_threads, nr_idle;
	bool started, stopping;
	pthread_t foreman;
	struct account_table *accounts;
	_Atomic unsigned int nr[CLOSER_KINDS]; /* in either list */
};

void closer_init(struct closer *c, struct account_table *accounts);
/* Returns 0 or -errno. Until then closer_take() closes at once. */
int closer_start(struct closer *c);
/* Takes fd over. Waits for nothing once the closer is started. Any thread and context. */
void closer_take(struct closer *c, enum closer_kind kind, int fd, uid_t uid);
/* Do so many of this kind wait to be closed for this user that no more must be taken from him? */
bool closer_crowded(struct closer *c, enum closer_kind kind, uid_t uid);
/* Do so many connections wait that new ones had better bring no descriptors (rights_accept())? */
bool closer_guards(const struct closer *c);
/*
 * Closes what can be closed within a second; the end of the process does the rest. Nobody may call
 * closer_take() any more.
 */
void closer_stop(struct closer *c);

#endif
