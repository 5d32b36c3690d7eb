/* SPDX-License-Identifier: MIT */
/* rights.c - see rights.h. */
#include "daemon/rights.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* Linux 6.16 */
#endif

ssize_t rights_receive(int sock, void *buf, size_t len, struct rights *r)
{
	union {
		struct cmsghdr hdr;
		char buf[CMSG_SPACE(sizeof(r->fd))];
	} control;
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	struct msghdr mh = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		/* Exactly so many: the padding of CMSG_SPACE would let another in. */
		.msg_controllen = CMSG_LEN(sizeof(r->fd)),
	};
	ssize_t n = recvmsg(sock, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	r->nr = 0;
	r->cut = false;
	if (n < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&mh); c; c = CMSG_NXTHDR(&mh, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		r->nr = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(r->fd, CMSG_DATA(c), (size_t)r->nr * sizeof(int));
	}
	r->cut = mh.msg_flags & MSG_CTRUNC;
	return n;
}

void rights_refuse(int listen_fd)
{
	const int no = 0;

	setsockopt(listen_fd, SOL_SOCKET, SO_PASSRIGHTS, &no, sizeof(no));
}
