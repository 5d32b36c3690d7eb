/* SPDX-License-Identifier: MIT */
/* connect.h - find the daemon, and go from HELLO to READY. */
#ifndef KSM_CONNECT_H
#define KSM_CONNECT_H

#include <stdbool.h>

#include "client/heritage.h"
#include "client/kit.h"
#include "client/link.h"

/*
 * Decide where the daemon is, by `dir` or the environment, unless that was done. Early: a program
 * may wipe its environment (nginx) or take another identity before the daemon appears.
 */
void connect_find_daemon(struct heritage *h, const char *dir);
/* Is there a socket where the daemon is looked for? Nobody may listen to it. Context: any. */
bool connect_may_be_there(const struct heritage *h);
/*
 * Open this process's memory for the daemon; what is open stays when no other can be had. Returns
 * whether both files are open. At the thread's start, because a program that changes its user later
 * is not dumpable then; and for each connection, because a program may be refused at first.
 */
bool connect_open_self(struct kit *k);
/*
 * Connect to the daemon's socket, or where nobody listens there to root's; the link begins. False:
 * there is no daemon, or none that this process trusts: mailbox.refused says EPERM then.
 */
bool connect_daemon(struct link *l, const struct heritage *h);
/*
 * HELLO, WELCOME, READY: the kit has its userfaultfds, buffers and the arena afterwards. Waits for
 * the daemon at most 10 s. False: the connection is to end.
 */
bool connect_handshake(struct link *l, struct heritage *h);

#endif
