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
 * Let no peer send descriptors to a listening socket's connections; kernels before 6.16 do not know
 * how, and then they are received and closed.
 */
void rights_refuse(int listen_fd);

#endif
