/* SPDX-License-Identifier: MIT */
/*
 * call.h - a connection to the daemon on behalf of the process that uses the view.
 *
 * The daemon decides by the user of its peer what may be seen and set. So the view connects as
 * that user: the calling thread takes the caller's ids for the length of a connect(2), whose
 * credentials the kernel keeps with the connection. The real id of the thread stays, so that the
 * caller can neither signal nor trace it. Where the view has no right to change ids it serves its
 * own user alone, and the kernel sees to that (no allow_other).
 *
 * Connections are kept for the next command of the same caller: the same user, group and groups,
 * which are all that the daemon knows of it. Connecting costs more than a command does. One that
 * the daemon has ended, or may have, is not used again, so a daemon that is gone gives EIO and one
 * that has come back answers the next command. A store has a connection of its own: it may take
 * long, and must not meet a daemon that has just ended.
 */
#ifndef KSMD_FS_CALL_H
#define KSMD_FS_CALL_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

#include "tools/control/talk.h"

#define CALL_GROUPS_MAX 64 /* more supplementary groups than that are left out */

/* The process that asks. */
struct caller {
	uid_t uid;
	gid_t gid;
	gid_t groups[CALL_GROUPS_MAX];
	int nr_groups;
};

bool caller_same(const struct caller *a, const struct caller *b);

/* Connections at rest. Any thread may use a pool. */
#define CALL_KEPT 8 /* half of what the daemon grants a user */
struct call_pool {
	pthread_mutex_t lock; /* covers what follows */
	struct kept {
		struct talk talk;
		struct caller who;
	} v[CALL_KEPT];
	unsigned int nr;
};

/*
 * Say `line` to the daemon whose control socket is at `path`, as `who`, and append the body of the
 * answer to `body`. `store`: it changes something. Returns as talk_say(); -EIO also when there is
 * no daemon, or one that is not to be trusted (wire/trust.h), and -EACCES also when `who` may not
 * connect.
 */
int call_say(struct call_pool *pool, const char *path, const struct caller *who, const char *line,
	     bool store, struct text *body);

#endif
