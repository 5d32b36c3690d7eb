/* SPDX-License-Identifier: MIT */
/* accept.h - the client socket: who may connect, and for how long without a word. */
#ifndef KSMD_ACCEPT_H
#define KSMD_ACCEPT_H

struct clients;

/* Takes over listen_fd, and adds the timer that drops silent clients. accept_deinit() closes. */
void accept_init(struct clients *c, int listen_fd);
void accept_deinit(struct clients *c);
/* Accept from the next turn on. Returns 0 or -errno. */
int accept_start(struct clients *c);

#endif
