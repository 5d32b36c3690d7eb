/* SPDX-License-Identifier: MIT */
/* server.h - talking to a server that was started here, over a socket that has a name. */
#ifndef KSM_BENCH_SERVER_H
#define KSM_BENCH_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/*
 * Connect to the server `name` in process `pid` when it listens on `sock`, ten seconds at most, and
 * remove the name. Returns 0 or a negative errno, which has been said; -ECHILD: it ended.
 */
int server_connect(pid_t pid, const char *name, const char *sock, int *fd);
/*
 * Send or receive exactly `len` bytes, with half a minute's patience for each piece. Returns 0,
 * -ECONNRESET when the server has closed, -ETIMEDOUT, -EINTR when the operator asked to stop, or
 * another negative errno.
 */
int server_transfer(int fd, char *buf, size_t len, bool out);

#endif
