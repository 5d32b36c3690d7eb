/* SPDX-License-Identifier: MIT */
/*
 * surveyor.c - see surveyor.h.
 *
 * A process may keep its own address space locked for as long as it likes, and the surveyor with
 * it. So the daemon waits a bounded time, once; while an answer is owed, nodes are unknown.
 */
#include "daemon/surveyor.h"

#include <errno.h>
#include <linux/capability.h>
#include <numaif.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/confine.h"
#include "numa/numa_topology.h"

/* It answers within microseconds. A machine that swaps may take longer than this. */
#define PATIENCE_S 2

struct question {
	uint32_t nr;
	int32_t pid;
	void *page[NUMA_MAX_QUERY];
};
struct answer {
	uint32_t nr;
	int32_t error; /* 0, or -errno */
	int status[NUMA_MAX_QUERY];
};

static ssize_t send_all(int sock, const void *data, size_t len)
{
	ssize_t n;

	do
		n = send(sock, data, len, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static ssize_t receive(int sock, void *data, size_t len, int flags)
{
	ssize_t n;

	do
		n = recv(sock, data, len, flags);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* ---- the surveyor ---- */

/* Its whole life; it ends with the daemon's end of the socket. */
static void surveyor_main(int sock)
{
	struct question q;
	struct answer a;
	ssize_t len;

	/* A manager tells all of our processes to end, but the daemon still has to serve. */
	signal(SIGTERM, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	if (confine_surveyor(sock))
		_exit(1);
	while ((len = receive(sock, &q, sizeof(q), 0)) >=
	       (ssize_t)offsetof(struct question, page)) {
		size_t nr = ((size_t)len - offsetof(struct question, page)) / sizeof(q.page[0]);

		a.nr = q.nr;
		a.error = move_pages(q.pid, nr, q.page, NULL, a.status, 0) < 0 ? -errno : 0;
		len = (ssize_t)(offsetof(struct answer, status) + nr * sizeof(a.status[0]));
		if (send_all(sock, &a, (size_t)len) != len)
			break;
	}
	_exit(0);
}

/* ---- the daemon ---- */

static bool may_trace(void)
{
	struct __user_cap_header_struct hdr = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	return !syscall(SYS_capget, &hdr, data) &&
	       (data[0].effective & (1u << CAP_SYS_PTRACE)) != 0;
}

int surveyor_start(struct surveyor *s)
{
	struct timeval patience = { .tv_sec = PATIENCE_S };
	int sock[2], err = 0;
	pid_t pid;

	*s = (struct surveyor){ .sock = -1 };
	lock_init(&s->lock);
	if (!may_trace())
		return -EPERM;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock))
		return -errno;
	pid = fork();
	if (pid == 0)
		surveyor_main(sock[1]);
	if (pid < 0 || setsockopt(sock[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)))
		err = -errno;
	close(sock[1]);
	if (err)
		close(sock[0]);
	else
		s->sock = sock[0];
	return err;
}

static void hang_up(struct surveyor *s)
{
	if (s->sock >= 0)
		close(s->sock);
	s->sock = -1;
}

void surveyor_stop(struct surveyor *s)
{
	hang_up(s);
	lock_deinit(&s->lock);
}

static int give_up(struct surveyor *s)
{
	log_msg(LOG_WARNING, "the process that sees where pages lie is gone");
	hang_up(s);
	return -ENOTCONN;
}

/* The answer to the newest question; or -EAGAIN (not yet), -ENOTCONN (it is given up). */
static int take_answer(struct surveyor *s, struct answer *a, int flags)
{
	ssize_t n = receive(s->sock, a, sizeof(*a), flags);

	if (n == -EAGAIN)
		return -EAGAIN;
	if (n < (ssize_t)offsetof(struct answer, status) || a->nr != s->nr)
		return give_up(s);
	return 0;
}

/* An answer that we did not wait for comes before any other. Returns 0 when none is owed. */
static int catch_up(struct surveyor *s, struct answer *a)
{
	int err = s->late ? take_answer(s, a, MSG_DONTWAIT) : 0;

	if (s->late && !err) {
		s->late = false;
		log_msg(LOG_INFO, "the process that sees where pages lie answers again");
	}
	return err;
}

static int ask(struct surveyor *s, const struct question *q, size_t len, struct answer *a)
{
	ssize_t n = send_all(s->sock, q, len);
	int err;

	if (n == -EPIPE || n == -ECONNRESET)
		return give_up(s);
	if (n < 0)
		return (int)n; /* the kernel is short of something now */
	s->nr = q->nr;
	err = take_answer(s, a, 0);
	if (err == -EAGAIN) {
		s->late = true;
		log_msg(LOG_WARNING, "the process that sees where pages lie does not answer in "
				     "time");
	}
	return err;
}

int surveyor_query(void *surveyor, pid_t pid, void **page, int nr, int *status)
{
	struct surveyor *s = surveyor;
	struct question q = { .pid = pid };
	struct answer a;
	int err = -ENOTCONN;

	memcpy(q.page, page, (size_t)nr * sizeof(page[0]));
	lock_take(&s->lock);
	if (s->sock >= 0)
		err = catch_up(s, &a);
	q.nr = s->nr + 1;
	if (!err)
		err = ask(s, &q, offsetof(struct question, page) + (size_t)nr * sizeof(page[0]),
			  &a);
	lock_give(&s->lock);
	if (!err)
		err = a.error;
	if (!err)
		memcpy(status, a.status, (size_t)nr * sizeof(status[0]));
	return err;
}
