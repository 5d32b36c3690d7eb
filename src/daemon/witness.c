/* SPDX-License-Identifier: MIT */
/* witness.c - see witness.h. */
#include "daemon/witness.h"

#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/confine.h"

/* PIDFD_GET_*_NAMESPACE of Linux 6.11; our headers may be older. */
#define GET_PID_NAMESPACE _IO(0xff, 5)
#define GET_USER_NAMESPACE _IO(0xff, 9)
/* The witness answers within microseconds. A machine that swaps may take longer than this. */
#define PATIENCE_S 2

struct question {
	uint32_t nr;
};
struct answer {
	uint32_t nr;
	int32_t error; /* 0: the descriptors come along; or -errno */
};

union fd_buf {
	struct cmsghdr hdr;
	char room[CMSG_SPACE(NS_NR * sizeof(int))];
};

/* One message with up to NS_NR descriptors. Returns bytes, or -errno. */
static ssize_t send_with(int sock, const void *data, size_t len, const int *fd, size_t nr)
{
	union fd_buf buf = { 0 };
	struct iovec iov = { (void *)data, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (nr) {
		msg.msg_control = buf.room;
		msg.msg_controllen = CMSG_SPACE(nr * sizeof(int));
		buf.hdr.cmsg_len = CMSG_LEN(nr * sizeof(int));
		buf.hdr.cmsg_level = SOL_SOCKET;
		buf.hdr.cmsg_type = SCM_RIGHTS;
		memcpy(CMSG_DATA(&buf.hdr), fd, nr * sizeof(int));
	}
	do
		n = sendmsg(sock, &msg, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* The reverse. *nr is the number of descriptors, which the caller owns. */
static ssize_t receive_with(int sock, void *data, size_t len, int fd[NS_NR], size_t *nr, int flags)
{
	union fd_buf buf = { 0 };
	struct iovec iov = { data, len };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = buf.room,
			      .msg_controllen = sizeof(buf.room) };
	const struct cmsghdr *c;
	ssize_t n;

	do
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | flags);
	while (n < 0 && errno == EINTR);
	*nr = 0;
	if (n < 0)
		return -errno;
	c = CMSG_FIRSTHDR(&msg);
	if (c && c->cmsg_type == SCM_RIGHTS) {
		*nr = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fd, CMSG_DATA(c), *nr * sizeof(int));
	}
	return n;
}

static void close_all(const int *fd, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		close(fd[i]);
}

/* ---- the witness ---- */

static int open_namespaces(int pidfd, int ns[NS_NR])
{
	int err;

	ns[NS_USER] = ioctl(pidfd, GET_USER_NAMESPACE, 0);
	if (ns[NS_USER] < 0)
		return -errno;
	ns[NS_PID] = ioctl(pidfd, GET_PID_NAMESPACE, 0);
	if (ns[NS_PID] >= 0)
		return 0;
	err = -errno;
	close(ns[NS_USER]);
	return err;
}

/* Takes the descriptors. False when they cannot be passed on; a->error then says why. */
static bool answered(int sock, struct answer *a, const int ns[NS_NR])
{
	ssize_t n = send_with(sock, a, sizeof(*a), ns, NS_NR);

	close_all(ns, NS_NR);
	a->error = n < 0 ? (int32_t)n : 0;
	return n >= 0;
}

/* The witness's whole life; it ends with the daemon's end of the socket. */
static void witness_main(int sock)
{
	struct question q;
	int fd[NS_NR], ns[NS_NR];
	size_t nr;

	/* A manager tells all of our processes to end, but the daemon still has to serve. */
	signal(SIGTERM, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	if (confine_witness(sock))
		_exit(1);
	while (receive_with(sock, &q, sizeof(q), fd, &nr, 0) == sizeof(q)) {
		struct answer a = { .nr = q.nr, .error = -EBADF };

		if (nr == 1)
			a.error = open_namespaces(fd[0], ns);
		if (a.error || !answered(sock, &a, ns))
			send_with(sock, &a, sizeof(a), NULL, 0);
		close_all(fd, nr);
	}
	_exit(0);
}

/* ---- the daemon ---- */

static uint64_t inode_of(const char *path)
{
	struct stat st;

	return stat(path, &st) ? 0 : st.st_ino;
}

int witness_start(struct witness *w)
{
	struct timeval patience = { .tv_sec = PATIENCE_S };
	int sock[2], err = 0;
	pid_t pid;

	w->sock = -1;
	w->nr = 0;
	w->late = false;
	w->own[NS_USER] = inode_of("/proc/self/ns/user");
	w->own[NS_PID] = inode_of("/proc/self/ns/pid");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock))
		return -errno;
	pid = fork();
	if (pid == 0)
		witness_main(sock[1]);
	if (pid < 0 || setsockopt(sock[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)))
		err = -errno;
	close(sock[1]);
	if (err)
		close(sock[0]);
	else
		w->sock = sock[0];
	return err;
}

void witness_stop(struct witness *w)
{
	if (w->sock >= 0)
		close(w->sock);
	w->sock = -1;
}

static int give_up(struct witness *w)
{
	log_msg(LOG_WARNING, "the process that sees namespaces is gone");
	witness_stop(w);
	return -ENOTCONN;
}

/*
 * The answer to the newest question, and what came with it; or -errno, and then there is nothing to
 * close: -EAGAIN (not yet), -ENOTCONN (it is given up, because it ended or said something else).
 */
static int receive_answer(struct witness *w, struct answer *a, int ns[NS_NR], size_t *nr, int flags)
{
	ssize_t n = receive_with(w->sock, a, sizeof(*a), ns, nr, flags);

	if (n == -EAGAIN)
		return -EAGAIN;
	if (n == sizeof(*a) && a->nr == w->nr)
		return 0;
	close_all(ns, *nr);
	return give_up(w);
}

/* An answer that we did not wait for comes before any other. Returns 0 when none is owed. */
static int catch_up(struct witness *w)
{
	struct answer a;
	int ns[NS_NR], err;
	size_t nr;

	if (!w->late)
		return 0;
	err = receive_answer(w, &a, ns, &nr, MSG_DONTWAIT);
	if (err)
		return err;
	close_all(ns, nr);
	w->late = false;
	log_msg(LOG_INFO, "the process that sees namespaces answers again");
	return 0;
}

/* Returns 0 when the answer to this question is to be waited for. */
static int send_question(struct witness *w, int pidfd)
{
	struct question q = { .nr = w->nr + 1 };
	ssize_t n = send_with(w->sock, &q, sizeof(q), &pidfd, 1);

	if (n == -EPIPE || n == -ECONNRESET)
		return give_up(w);
	if (n < 0)
		return (int)n; /* the kernel is short of something now */
	w->nr = q.nr;
	return 0;
}

int witness_ask(struct witness *w, int pidfd, int ns[NS_NR], uint64_t id[NS_NR])
{
	struct answer a;
	struct stat st[NS_NR];
	size_t nr;
	int err;

	if (w->sock < 0 || !w->own[NS_USER] || !w->own[NS_PID])
		return -ENOTCONN;
	err = catch_up(w);
	if (!err)
		err = send_question(w, pidfd);
	if (err)
		return err;
	err = receive_answer(w, &a, ns, &nr, 0);
	if (err == -EAGAIN) {
		w->late = true;
		log_msg(LOG_WARNING, "the process that sees namespaces does not answer in time");
	}
	if (err)
		return err;
	if (a.error || nr != NS_NR || fstat(ns[NS_USER], &st[NS_USER]) ||
	    fstat(ns[NS_PID], &st[NS_PID])) {
		close_all(ns, nr);
		/* Fewer descriptors than were sent: we may have no more open. */
		return a.error ? a.error : -EMFILE;
	}
	for (int i = 0; i < NS_NR; i++)
		id[i] = st[i].st_ino;
	return 0;
}
