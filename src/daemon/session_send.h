/* SPDX-License-Identifier: MIT */
/*
 * session_send.h - what a client is told.
 *
 * Nothing here waits. What does not fit into the socket is refused (an order: the engine tries
 * again) or stays wanted and is sent when there is room (an epoch, UNMERGE, the answer to STAT). So
 * a client that stops reading costs one socket buffer.
 */
#ifndef KSMD_SESSION_SEND_H
#define KSMD_SESSION_SEND_H

#include "daemon/session.h"

/* Send now or not at all; fds[0..nr_fds) go along and stay the caller's. Return 0 or -errno. */
int session_send(struct session *s, const struct ksm_msg_hdr *msg, const int *fds, int nr_fds)
	NEEDS_NOT(s->send_lock);
int session_send_locked(struct session *s, const struct ksm_msg_hdr *msg, const int *fds,
			int nr_fds) NEEDS(s->send_lock);
/*
 * The client's id, the arena, /dev/userfaultfd and a sentinel of this epoch. Returns 0 or -errno.
 */
int session_send_welcome(struct session *s, uint64_t epoch, int sentinel);
/* error: a positive errno. */
void session_send_error(struct session *s, int error, const char *text);

/* Client thread: send what is wanted and possible, and poll for room while something is left. */
void session_flush(struct session *s);
/* Watch the socket for what is of use now: no input while it works on a change. */
void session_listen(struct session *s);
/* Client thread: want more, and flush. */
void session_want(struct session *s, uint32_t want);

#endif
