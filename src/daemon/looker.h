/* SPDX-License-Identifier: MIT */
/*
 * looker.h - the thread that looks at clients' memory before their counters are read.
 *
 * There is no thread until somebody reads, and it sleeps while nobody does.
 */
#ifndef KSMD_LOOKER_H
#define KSMD_LOOKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/bell.h"

struct daemon;

/* Time that may be spent: a part of the time that passes, and so much at once. */
struct purse {
	int64_t left_ns;    /* negative: a debt, because a look cost more than there was */
	uint64_t filled_ns; /* when it was filled last */
};

struct looker {
	struct daemon *d;
	pthread_t thread;
	bool started; /* main thread, like the next */
	struct purse one, all;
	struct bell bell;     /* of the looker */
	struct bell answered; /* of the main thread, which waits */
	_Atomic pid_t pid;    /* whom to look at; 0: all clients */
	_Atomic uint32_t asked, done;
	pid_t last; /* looker: of those, the last that it looked at */
};

/* For the main thread. Returns 0 or -errno. */
int looker_init(struct looker *l, struct daemon *d);
void looker_deinit(struct looker *l);
/*
 * Ends the thread, if there is one; no other may be begun. False: it has not ended in 0.4 s, as in
 * scan_stop().
 */
bool looker_stop(struct looker *l);

/*
 * Look at what a client (0: every client) has written of what merging has placed, so that counters
 * show the present. Waits for that, for LOOKER_WAIT_MS at most; returns at once where that time is
 * spent. Main thread.
 */
void looker_look(struct looker *l, pid_t pid);

#endif
