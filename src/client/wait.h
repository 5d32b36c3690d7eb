/* SPDX-License-Identifier: MIT */
/* wait.h - the one place where the agent sleeps. */
#ifndef KSM_WAIT_H
#define KSM_WAIT_H

#include "client/link.h"

#define WAIT_FOREVER (-1)

/* glibc's own signals: 32 cancels a thread, 33 changes the user of all threads. */
#define GLIBC_SIGNALS (3ull << 31)
#define SIGNAL_SETXID (1ull << 32)

/*
 * Sleep until the socket (if there is one) has poll(2) `events`, until a program thread pokes, or
 * for timeout_ms. Afterwards serve the request of a program thread. Returns the socket's revents;
 * POLLHUP when the agent is to end (mailbox_ending()).
 */
short wait_for(struct link *l, short events, int timeout_ms);
/* The daemon has been told all that is known: ask it about passes if a program thread wants it. */
void wait_ask_passes(struct link *l);
/* Has the program's first thread ended? Then the agent is to end, too. */
void wait_look_for_end(const struct kit *k);
/* Serve the request of a program thread, if there is one, without sleeping. */
void wait_serve_request(struct link *l);

#endif
