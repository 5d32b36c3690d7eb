/* SPDX-License-Identifier: MIT */
/* rights.c - see rights.h. */
#include "daemon/rights.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* Linux 6.16 */
#endif
#define DRAIN_MESSAGES 8 /* a client has hardly more under way when its session ends */
#define DRAIN_BYTES 4096 /* of one look */

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

void rights_accept(int sock, bool yes)
{
	const int on = yes;

	setsockopt(sock, SOL_SOCKET, SO_PASSRIGHTS, &on, sizeof(on));
}

/* One message without its descriptors, which stay in the queue if it is only looked at. */
static ssize_t next_message(int sock, int flags, struct msghdr *mh)
{
	static const size_t room = CMSG_LEN(sizeof(struct ucred));
	ssize_t n;

	mh->msg_controllen = room;
	mh->msg_flags = 0;
	do
		n = recvmsg(sock, mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC | flags);
	while (n < 0 && errno == EINTR);
	return n;
}

/*
 * A message may be empty, and looks like the end then, except on a stream, which has none. The
 * sender's credentials, which the kernel adds to messages alone, tell the two apart. They take all
 * of the room, so a message that brings descriptors as well is cut.
 */
bool rights_drain(int sock)
{
	union {
		struct cmsghdr hdr;
		char buf[CMSG_SPACE(sizeof(struct ucred))];
	} control;
	char bytes[DRAIN_BYTES];
	struct iovec iov = { .iov_base = bytes, .iov_len = sizeof(bytes) };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control };
	const int on = 1;
	socklen_t len = sizeof(int);
	int type;

	if (setsockopt(sock, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) ||
	    getsockopt(sock, SOL_SOCKET, SO_TYPE, &type, &len))
		return false;
	for (int i = 0; i < DRAIN_MESSAGES; i++) {
		ssize_t n = next_message(sock, MSG_PEEK, &mh);

		if (n < 0 || (mh.msg_flags & MSG_CTRUNC))
			return false;
		if (n == 0 && (type == SOCK_STREAM || !mh.msg_controllen))
			return true;
		if (next_message(sock, 0, &mh) < 0)
			return false;
	}
	return false;
}
