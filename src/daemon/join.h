/* SPDX-License-Identifier: MIT */
/*
 * join.h - the handshake: a connection becomes a client.
 *
 * HELLO brings three descriptors of the client's own process. WELCOME answers with the arena and a
 * sentinel. READY says that the client has set itself up.
 */
#ifndef KSMD_JOIN_H
#define KSMD_JOIN_H

#include "daemon/session.h"

/*
 * HELLO, with nr_fds descriptors, `more` if further ones were cut off. Returns true when the
 * session has taken over fds[]; when not, it has failed, and they stay the caller's.
 */
bool join_hello(struct session *s, const struct ksm_msg_hello *hello, const int *fds, int nr_fds,
		bool more);
/* A HELLO of another version, whatever its length. The session has failed. */
void join_other_version(struct session *s, uint32_t version);
void join_ready(struct session *s, const union ksm_msg *msg);

#endif
