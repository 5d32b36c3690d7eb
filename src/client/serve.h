/* SPDX-License-Identifier: MIT */
/* serve.h - the life of a connection. */
#ifndef KSM_SERVE_H
#define KSM_SERVE_H

#include <stdbool.h>

#include "client/heritage.h"
#include "client/link.h"

/*
 * Shake hands on a link that has begun, declare everything, and serve until the connection breaks
 * or the process changes its user. The link has ended when this returns. Returns whether the
 * handshake succeeded. Context: the agent's thread.
 */
bool serve_connection(struct link *l, struct heritage *h);

#endif
