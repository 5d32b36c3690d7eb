/* SPDX-License-Identifier: MIT */
/*
 * listener.h - a listening socket that never makes its thread spin.
 *
 * accept(2) leaves a connection in the queue when the process has no descriptor left, so the socket
 * stays ready, and a loop that watches it turns without end. The listener keeps a descriptor in
 * reserve: it gives that up to take such a connection off the queue and have it turned away. When
 * not even that is to be had (again), it looks away for a while.
 */
#ifndef KSM_LISTENER_H
#define KSM_LISTENER_H

#include "base/loop.h"

/* Invariant: while the socket is watched for connections, there is a spare descriptor. */
struct listener {
	struct loop_watch watch;
	struct loop_timer rest;
	int spare; /* the descriptor in reserve, or -1 */
	/* Take over a connection: non-blocking, close-on-exec. */
	void (*admit)(struct listener *l, int sock);
	/* No descriptor was left: tell the peer, and have `sock` closed before long. */
	void (*turn_away)(struct listener *l, int sock);
};

/* Fill it in; nothing is accepted yet. `fd` is non-blocking. */
void listener_init(struct listener *l, struct loop *loop, int fd,
		   void (*admit)(struct listener *l, int sock),
		   void (*turn_away)(struct listener *l, int sock));
/* Accept from now on. Returns 0 or -errno; listener_close() follows in either case. */
int listener_start(struct listener *l, struct loop *loop);
/* Accept no more. Returns the socket, for the caller to close. */
int listener_close(struct listener *l);

#endif
