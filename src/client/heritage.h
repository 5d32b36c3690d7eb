/* SPDX-License-Identifier: MIT */
/* heritage.h - what a forked child keeps of its parent's agent. */
#ifndef KSM_HERITAGE_H
#define KSM_HERITAGE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/un.h>

#include "client/heap.h"
#include "client/past.h"
#include "client/sentinel.h"

/*
 * Everything here is as true in a child as it was in the parent, except that the connection's
 * sentinels become old ones (sentinel_retire()).
 *
 * Covered by: sock_path and or_root are set once, before the thread first starts. pid, stack and
 * stack_size belong to the thread that takes mailbox.tid from 0 to -1, and so do key and have_key;
 * ends_ms and nr_ends belong to the thread that set mailbox.ending.
 */
struct heritage {
	_Atomic bool released;     /* no connection until the process is told to join */
	_Atomic uint32_t deferred; /* start the agent only when told to: ksmc_defer_agent() */
	int32_t pid;               /* of the process that last started it; 0: none did */
	/* glibc has forgotten the parent's threads in a child, and with them their stacks. */
	void *stack;
	size_t stack_size;
	char sock_path[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* empty: no such place */
	bool or_root; /* where nobody listens there, root's daemon is looked for */
	struct heap heap;
	struct sentinels sentinels;
	struct past past;
	bool have_key; /* made: its destructor runs when the first thread leaves by pthread_exit */
	pthread_key_t key;
	uint64_t ends_ms; /* ends of the agent are counted from here on */
	uint32_t nr_ends;
};

#endif
