/* SPDX-License-Identifier: MIT */
/* ending.h - the daemon is told to end, and is gone soon after, whatever its threads wait for. */
#ifndef KSMD_ENDING_H
#define KSMD_ENDING_H

#include <pthread.h>
#include <stdbool.h>

#include "base/guard.h"
#include "base/loop.h"
#include "daemon/runtime_dir.h"

struct ending {
	struct loop_watch signals; /* of the main thread's loop */
	struct runtime_dir *dir;
	const char *_Atomic at; /* what is being ended now */
	struct lock lock;       /* covers `over` */
	pthread_cond_t wake;
	bool over;
	bool watched; /* `thread` runs */
	pthread_t thread;
};

/*
 * From here on SIGTERM and SIGINT come through a descriptor, in every thread that is started, and
 * stop the loop. Returns 0 or -errno; undone by ending_deaf().
 */
int ending_listen(struct ending *e, struct loop *l);
void ending_deaf(struct ending *e);

/*
 * The end begins: the process is gone in ENDING_MS at the latest, with exit status 0 and without
 * its sockets in dir (which stays the caller's). Before each part of the end set e->at to its name.
 */
void ending_begin(struct ending *e, struct runtime_dir *dir);
/* All parts are done; or ending_begin() was not called, and nothing happens. */
void ending_over(struct ending *e);

/* End now, as above, without what does not come to its end: `what` is logged. From any thread. */
_Noreturn void ending_without(struct runtime_dir *dir, const char *what);

#endif
