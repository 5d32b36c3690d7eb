/* SPDX-License-Identifier: MIT */
/* beside.c - see beside.h. */
#include "daemon/beside.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/log.h"

/* An answer takes microseconds. A machine that swaps may take longer than this. */
#define PATIENCE_S 2

/* Before each body. */
struct head {
	uint32_t nr;
	int32_t error; /* of an answer: 0 or -errno */
};

union fd_buf {
	struct cmsghdr hdr;
	char room[CMSG_SPACE(BESIDE_FDS * sizeof(int))];
};

/* Returns 0 or -errno. */
static int send_message(int sock, const struct head *h, const struct beside_message *m)
{
	union fd_buf buf = { 0 };
	struct iovec iov[2] = { { (void *)h, sizeof(*h) }, { m->body, m->len } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t n;

	if (m->nr_fds) {
		msg.msg_control = buf.room;
		msg.msg_controllen = CMSG_SPACE(m->nr_fds * sizeof(int));
		buf.hdr.cmsg_len = CMSG_LEN(m->nr_fds * sizeof(int));
		buf.hdr.cmsg_level = SOL_SOCKET;
		buf.hdr.cmsg_type = SCM_RIGHTS;
		memcpy(CMSG_DATA(&buf.hdr), m->fd, m->nr_fds * sizeof(int));
	}
	do
		n = sendmsg(sock, &msg, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

/* The reverse. Without a whole head there is -EBADMSG, and the other end is gone or broken. */
static int receive_message(int sock, struct head *h, struct beside_message *m, int flags)
{
	union fd_buf buf = { 0 };
	struct iovec iov[2] = { { h, sizeof(*h) }, { m->body, m->len } };
	struct msghdr msg = { .msg_iov = iov,
			      .msg_iovlen = 2,
			      .msg_control = buf.room,
			      .msg_controllen = sizeof(buf.room) };
	const struct cmsghdr *c;
	ssize_t n;

	m->len = m->nr_fds = 0;
	do
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | flags);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	c = CMSG_FIRSTHDR(&msg);
	if (c && c->cmsg_type == SCM_RIGHTS) {
		m->nr_fds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(m->fd, CMSG_DATA(c), m->nr_fds * sizeof(int));
	}
	if ((size_t)n < sizeof(*h))
		return -EBADMSG;
	m->len = (size_t)n - sizeof(*h);
	return 0;
}

static void close_all(struct beside_message *m)
{
	for (size_t i = 0; i < m->nr_fds; i++)
		close(m->fd[i]);
	m->nr_fds = 0;
}

/* ---- the process ---- */

/* False when the daemon cannot be answered. */
static bool answer(int sock, const struct beside_kind *kind, const struct head *asked,
		   const struct beside_message *q, struct beside_message *a)
{
	struct head h = { .nr = asked->nr };
	int err;

	a->len = a->nr_fds = 0;
	h.error = kind->answer(q, a);
	err = send_message(sock, &h, a);
	if (err && a->nr_fds) { /* descriptors that cannot be passed on: say why */
		close_all(a);
		h.error = err;
		a->len = 0;
		err = send_message(sock, &h, a);
	}
	close_all(a);
	return !err;
}

/* Its whole life; it ends with the daemon's end of the socket. */
static void process_main(int sock, const struct beside_kind *kind)
{
	struct beside_message q = { .body = malloc(kind->room) };
	struct beside_message a = { .body = malloc(kind->room) };
	bool more = true;
	struct head h;

	/* A manager tells all of our processes to end, but the daemon still has to serve. */
	signal(SIGTERM, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	if (!q.body || !a.body || kind->confine(sock))
		_exit(1);
	while (more) {
		q.len = kind->room;
		more = !receive_message(sock, &h, &q, 0) && answer(sock, kind, &h, &q, &a);
		close_all(&q);
	}
	_exit(0);
}

/* ---- the daemon ---- */

int beside_start(struct beside *b, const struct beside_kind *kind)
{
	struct timeval patience = { .tv_sec = PATIENCE_S };
	int sock[2], err = 0;
	pid_t pid;

	*b = (struct beside){ .kind = kind, .sock = -1 };
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock))
		return -errno;
	pid = fork();
	if (pid == 0)
		process_main(sock[1], kind);
	if (pid < 0 || setsockopt(sock[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)))
		err = -errno;
	close(sock[1]);
	if (err)
		close(sock[0]);
	else
		b->sock = sock[0];
	return err;
}

void beside_stop(struct beside *b)
{
	if (b->sock >= 0)
		close(b->sock);
	b->sock = -1;
}

static int give_up(struct beside *b)
{
	log_msg(LOG_WARNING, "%s is gone", b->kind->what);
	beside_stop(b);
	return -ENOTCONN;
}

/* The answer to the newest question. -EAGAIN: not yet; -ENOTCONN: it is given up. */
static int take_answer(struct beside *b, struct head *h, struct beside_message *a, int flags)
{
	int err = receive_message(b->sock, h, a, flags);

	if (err == -EAGAIN)
		return err;
	if (!err && h->nr == b->nr && h->error <= 0)
		return 0;
	close_all(a);
	return give_up(b);
}

/* An answer that we did not wait for comes before any other. Returns 0 when none is owed. */
static int catch_up(struct beside *b)
{
	struct beside_message none = { 0 };
	struct head h;
	int err;

	if (!b->late)
		return 0;
	err = take_answer(b, &h, &none, MSG_DONTWAIT);
	if (err)
		return err;
	close_all(&none);
	b->late = false;
	log_msg(LOG_INFO, "%s answers again", b->kind->what);
	return 0;
}

int beside_ask(struct beside *b, const struct beside_message *q, struct beside_message *a)
{
	struct head h = { .nr = b->nr + 1 };
	int err;

	if (b->sock < 0)
		return -ENOTCONN;
	err = catch_up(b);
	if (!err)
		err = send_message(b->sock, &h, q);
	if (err == -EPIPE || err == -ECONNRESET)
		return give_up(b);
	if (err)
		return err; /* not yet; or the kernel is short of something now */
	b->nr++;
	err = take_answer(b, &h, a, 0);
	if (err == -EAGAIN) {
		b->late = true;
		log_msg(LOG_WARNING, "%s does not answer in time", b->kind->what);
	}
	if (err)
		return err;
	if (h.error)
		close_all(a);
	return h.error;
}
