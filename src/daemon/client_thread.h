/* SPDX-License-Identifier: MIT */
/*
 * client_thread.h - the client thread: it accepts, receives, answers and drops clients, and turns
 * their grace periods.
 *
 * It sleeps at daemon.client_bell, which everybody may ring while the clients exist.
 */
#ifndef KSMD_CLIENT_THREAD_H
#define KSMD_CLIENT_THREAD_H

struct clients;
struct daemon;

/*
 * Makes the bell as well; listen_fd is taken over in any case. Returns NULL with errno. Nothing
 * happens before client_thread_start(), which returns 0 or -errno.
 */
struct clients *client_thread_new(struct daemon *d, int listen_fd);
int client_thread_start(struct clients *c);
/*
 * Ends the thread if it was started, drops every client and waits until the engine has released
 * all of them. The scan thread must have ended.
 */
void client_thread_stop(struct clients *c);
/* After client_thread_stop(), when no thread is left that rings. */
void client_thread_free(struct clients *c);
/* One turn, for tests that play the thread. */
void client_thread_turn(struct clients *c);

#endif
