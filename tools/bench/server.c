/* SPDX-License-Identifier: MIT */
/* server.c - talking to a server that was started here, over a socket that has a name. */
#include "server.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "message.h"
#include "stop.h"

enum { START_MS = 10000, ANSWER_MS = 30000 };

int server_connect(pid_t pid, const char *name, const char *sock, int *fd)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	uint64_t deadline = clock_ns() + START_MS * 1000000ull;

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", sock);
	*fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (*fd < 0)
		return -errno;
	while (connect(*fd, (struct sockaddr *)&sa, sizeof(sa))) {
		int status;

		if (waitpid(pid, &status, WNOHANG) == pid) {
			complain("%s ended at once, with status %#x", name, status);
			return -ECHILD;
		}
		if (clock_ns() > deadline) {
			complain("%s does not listen on %s", name, sock);
			return -ETIMEDOUT;
		}
		if (stop_sleep_ms(10))
			return -EINTR;
	}
	unlink(sock); /* it is connected; nobody else needs the name */
	return 0;
}

int server_transfer(int fd, char *buf, size_t len, bool out)
{
	while (len) {
		struct pollfd p = { .fd = fd, .events = out ? POLLOUT : POLLIN };
		ssize_t n;

		if (poll(&p, 1, ANSWER_MS) <= 0)
			return bench_stop ? -EINTR : -ETIMEDOUT;
		n = out ? send(fd, buf, len, MSG_NOSIGNAL) : recv(fd, buf, len, 0);
		if (n <= 0)
			return n ? -errno : -ECONNRESET;
		buf += n;
		len -= (size_t)n;
	}
	return 0;
}
