/* SPDX-License-Identifier: MIT */
/*
 * link.c - the socket to the daemon.
 *
 * Nothing here waits, so that only wait.c decides how long the agent sleeps. A message is one
 * SOCK_SEQPACKET datagram: it goes out whole or not at all.
 */
#include "client/link.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "client/as.h"
#include "client/sysc.h"

void link_begin(struct link *l, int sock)
{
	*l = (struct link)LINK_NONE(l->kit);
	l->sock = sock;
	l->uid = (uint32_t)sysc0(SYS_getuid);
	l->euid = (uint32_t)sysc0(SYS_geteuid);
	l->domain_nr = atomic_load(&as.domain_nr);
}

void link_end(struct link *l)
{
	kit_close(&l->sock);
	kit_close(&l->kit->arena);
}

bool link_same_identity(const struct link *l)
{
	return l->uid == (uint32_t)sysc0(SYS_getuid) && l->euid == (uint32_t)sysc0(SYS_geteuid) &&
	       l->domain_nr == atomic_load(&as.domain_nr);
}

int link_send(const struct link *l, const void *m, size_t len)
{
	long r = sysc6(SYS_sendto, l->sock, (long)m, (long)len, MSG_NOSIGNAL | MSG_DONTWAIT, 0, 0);

	return r < 0 ? (int)r : 0;
}

int link_ask(struct link *l, uint32_t flags)
{
	struct ksm_msg_stat m = { { KSM_MSG_STAT, sizeof(m) }, l->stat_id + 1, flags, 0 };
	int r = link_send(l, &m, sizeof(m));

	if (!r)
		l->stat_id++;
	return r;
}

long link_receive(const struct link *l, union ksm_msg *m, struct link_fds *f)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(f->fd))];
	} ctl;
	struct iovec iov = { m, sizeof(*m) };
	struct msghdr mh = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &ctl,
		/* Exactly LINK_FDS: the padding of CMSG_SPACE would let one more in. */
		.msg_controllen = CMSG_LEN(sizeof(f->fd)),
	};
	long n = sysc3(SYS_recvmsg, l->sock, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	f->nr = 0;
	if (n < 0)
		return n;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&mh); c; c = CMSG_NXTHDR(&mh, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		f->nr = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(f->fd, CMSG_DATA(c), (size_t)f->nr * sizeof(int));
	}
	if (n < (long)sizeof(m->hdr) || m->hdr.len != n || ksm_msg_size(m->hdr.type) != n)
		return n ? -EPROTO : 0;
	return n;
}

void link_close_fds(struct link_fds *f)
{
	while (f->nr > 0)
		sysc1(SYS_close, f->fd[--f->nr]);
}
