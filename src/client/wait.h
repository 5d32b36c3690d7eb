/* SPDX-License-Identifier: MIT */
/* wait.h - the one place where the agent sleeps. */
#ifndef KSM_WAIT_H
#define KSM_WAIT_H

#include "client/link.h"

#define WAIT_FOREVER (-1)

/*
 * Sleep until the socket (if there is one) has poll(2) `events`, until a program thread pokes, or
 * for timeout_ms. Afterwards serve the request of a program thread. Returns the socket's revents.
 */
short wait_for(struct link *l, short events, int timeout_ms);
/* Serve the request of a program thread, if there is one, without sleeping. */
void wait_serve_request(struct link *l);

#endif
