/* SPDX-License-Identifier: MIT */
/*
 * rights.h - receives a message together with every descriptor that came along.
 *
 * What finds no room in the receiver's buffer the kernel closes, on the receiver's thread, and that
 * may take for ever (closer.h). So there is room for as many as one message can bring.
 */
#ifndef KSMD_RIGHTS_H
#define KSMD_RIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define RIGHTS_MAX 253 /* the kernel takes no more with one message */

struct rights {
	int nr;
	bool cut; /* more came than the process may have open */
	int fd[RIGHTS_MAX];
};

/* recvmsg(2) without waiting. The caller owns r->fd[0..nr). Returns bytes, or -errno. */
ssize_t rights_receive(int sock, void *buf, size_t len, struct rights *r);
/*
 * May peers send descriptors to this socket, or to the future connections of a listening one? A
 * kernel before 6.16 does not know how to refuse them; then they are received and closed.
 */
void rights_accept(int sock, bool yes);
/*
 * Reads away some messages of a socket that was shut down. True: nothing is left in its queue, so
 * close(2) waits for nobody. False: descriptors are, or very much.
 */
bool rights_drain(int sock);

#endif
