/* SPDX-License-Identifier: MIT */
/* fake_client.c - see fake_client.h. */
#include "tests/lib/fake_client.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define must(cond) ((cond) ? (void)0 : harness_die("not so: %s", #cond))

int raw_connect(struct daemon *d)
{
	int fd = harness_connect(d->dir, KSM_CLIENT_SOCKET, SOCK_SEQPACKET);

	must(fd >= 0);
	return fd;
}

ssize_t send_fds(int sock, const void *msg, size_t len, const int *fds, int nr)
{
	union {
		struct cmsghdr hdr;
		char buf[CMSG_SPACE(8 * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = (void *)msg, .iov_len = len };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (nr) {
		memset(&control, 0, sizeof(control));
		mh.msg_control = &control;
		mh.msg_controllen = CMSG_SPACE((size_t)nr * sizeof(int));
		control.hdr.cmsg_level = SOL_SOCKET;
		control.hdr.cmsg_type = SCM_RIGHTS;
		control.hdr.cmsg_len = CMSG_LEN((size_t)nr * sizeof(int));
		memcpy(CMSG_DATA(&control.hdr), fds, (size_t)nr * sizeof(int));
	}
	return sendmsg(sock, &mh, MSG_NOSIGNAL);
}

void send_msg(int sock, void *msg, uint32_t type)
{
	struct ksm_msg_hdr *hdr = msg;

	hdr->type = type;
	hdr->len = ksm_msg_size(type);
	must(send(sock, msg, hdr->len, MSG_NOSIGNAL) == (ssize_t)hdr->len);
}

ssize_t recv_msg(int sock, union ksm_msg *msg, int *fds)
{
	union {
		struct cmsghdr hdr;
		char buf[CMSG_SPACE(NR_FDS * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = msg, .iov_len = sizeof(*msg) };
	struct msghdr mh = { .msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = sizeof(control) };
	struct pollfd p = { .fd = sock, .events = POLLIN };
	struct cmsghdr *c;
	ssize_t n;

	if (poll(&p, 1, WAIT_MS) <= 0)
		harness_die("no message from the daemon");
	n = recvmsg(sock, &mh, MSG_CMSG_CLOEXEC);
	c = n > 0 ? CMSG_FIRSTHDR(&mh) : NULL;
	if (c) {
		int got[NR_FDS + 1], nr = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));

		memcpy(got, CMSG_DATA(c), (size_t)nr * sizeof(int));
		for (int i = 0; i < nr; i++) {
			if (fds && i < NR_FDS)
				fds[i] = got[i];
			else
				close(got[i]);
		}
	}
	return n;
}

void expect_error(int sock, int error)
{
	union ksm_msg msg;

	do
		must(recv_msg(sock, &msg, NULL) > 0);
	while (msg.hdr.type != KSM_MSG_ERROR); /* orders may have been on their way */
	if (msg.error.error != error)
		harness_die("error %d (%.116s), not %d", msg.error.error, msg.error.text, error);
	must(strnlen(msg.error.text, sizeof(msg.error.text)) < sizeof(msg.error.text));
	must(strnlen(msg.error.text, sizeof(msg.error.text)) > 0);
	must(recv_msg(sock, &msg, NULL) <= 0);
}

void expect_end(int sock)
{
	union ksm_msg msg;

	must(recv_msg(sock, &msg, NULL) <= 0);
}

void own_fds(int fds[NR_FDS])
{
	fds[0] = (int)syscall(SYS_pidfd_open, getpid(), 0);
	fds[1] = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	fds[2] = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	for (int i = 0; i < NR_FDS; i++)
		must(fds[i] >= 0);
}

void close_fds(const int fds[NR_FDS])
{
	for (int i = 0; i < NR_FDS; i++)
		close(fds[i]);
}

struct ksm_msg_hello hello(void)
{
	return (struct ksm_msg_hello){
		.hdr = { KSM_MSG_HELLO, sizeof(struct ksm_msg_hello) },
		.version = KSM_WIRE_VERSION,
		.nr_vmas = 30,
		.max_map_count = 65530,
	};
}

void fake_hello(struct daemon *d, struct fake *f)
{
	struct ksm_msg_hello msg = hello();
	union ksm_msg reply;
	int fds[NR_FDS];

	f->seq = 0;
	f->sock = raw_connect(d);
	own_fds(fds);
	must(send_fds(f->sock, &msg, sizeof(msg), fds, NR_FDS) > 0);
	close_fds(fds);
	must(recv_msg(f->sock, &reply, f->fds) == sizeof(reply.welcome));
	must(reply.hdr.type == KSM_MSG_WELCOME);
	f->welcome = reply.welcome;
}

void fake_ready(struct daemon *d, struct fake *f)
{
	struct ksm_msg_ready msg;

	fake_hello(d, f);
	send_msg(f->sock, &msg, KSM_MSG_READY);
}

void fake_close(struct fake *f)
{
	close(f->sock);
	close_fds(f->fds);
}

void send_range(struct fake *f, uint32_t type, uint64_t start, uint64_t end)
{
	struct ksm_msg_range msg = { .seq = ++f->seq, .start = start, .end = end };

	send_msg(f->sock, &msg, type);
}

void expect_served(struct fake *f)
{
	struct ksm_msg_stat msg = { .id = 4711 };
	union ksm_msg reply;

	send_msg(f->sock, &msg, KSM_MSG_STAT);
	do
		must(recv_msg(f->sock, &reply, NULL) > 0);
	while (reply.hdr.type != KSM_MSG_STAT_REPLY);
	must(reply.stat_reply.id == 4711);
}

void expect_clean(struct daemon *d, int nr_fds)
{
	wait_until(ctl_get_u64(d, "ksm/clients") == 0, WAIT_MS, "all clients are gone");
	wait_until(ctl_get_u64(d, "daemon/connections") == 0, WAIT_MS, "no connection is left");
	wait_until(ctl_get_u64(d, "ksm/frames_used") == 0, WAIT_MS, "no frame is left");
	wait_until(harness_nr_fds(d->pid) <= nr_fds, WAIT_MS, "descriptors are closed");
}
