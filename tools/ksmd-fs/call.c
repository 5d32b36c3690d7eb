/* SPDX-License-Identifier: MIT */
/* call.c - see call.h. The protocol is that of src/daemon/control.h. */
#include "tools/ksmd-fs/call.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "wire/trust.h"

/* The longest store, run set to 2, is answered after 10 s at most (unmerge_job.h). */
#define CALL_TIMEOUT_S 30
#define CALL_BODY_MAX (16u << 20) /* more than the list of all the clients a daemon can have */
#define CALL_HEAD_MAX 1024u       /* "ok LENGTH", or an error with the pids it names */
#define ERRNO_MAX 133             /* EHWPOISON, the last that Linux has */

/* ---- the caller's ids, for one thread: the C library's functions change those of all ---- */

static void must(long ret)
{
	if (ret) /* going on with another's ids is the one thing that must not happen */
		abort();
}

static int take_ids(const struct caller *who)
{
	if (syscall(SYS_setgroups, who->nr_groups, who->groups))
		return -errno;
	must(syscall(SYS_setresgid, -1, who->gid, -1));
	must(syscall(SYS_setresuid, -1, who->uid, -1));
	return 0;
}

static void give_ids_back(void)
{
	must(syscall(SYS_setresuid, -1, getuid(), -1));
	must(syscall(SYS_setresgid, -1, getgid(), -1));
	must(syscall(SYS_setgroups, 0, NULL));
}

static int connect_as(int fd, const struct sockaddr_un *sun, const struct caller *who)
{
	bool other = getuid() == 0 && (who->uid != 0 || who->gid != getgid());
	int err = other ? take_ids(who) : 0;

	if (err)
		return err;
	err = connect(fd, (const struct sockaddr *)sun, sizeof(*sun)) ? -errno : 0;
	if (other)
		give_ids_back();
	return err == 0 || err == -EACCES || err == -EINTR ? err : -EIO;
}

/* ---- the connection ---- */

int call_open(struct call *c, const char *path, const struct caller *who)
{
	const struct timeval limit = { .tv_sec = CALL_TIMEOUT_S };
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int err;

	*c = (struct call){ .fd = -1 };
	if (strlen(path) >= sizeof(sun.sun_path))
		return -EIO;
	strcpy(sun.sun_path, path);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return -errno;
	setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	err = connect_as(c->fd, &sun, who);
	if (!err && (!trust_dir(path) || !trust_peer(c->fd)))
		err = -EIO;
	if (err)
		call_close(c);
	return err;
}

void call_close(struct call *c)
{
	close(c->fd);
	c->fd = -1;
	text_free(&c->in);
	c->pos = 0;
}

/* What recv(2) or send(2) came to, which did not return a byte. */
static int broken(ssize_t n)
{
	if (n == 0)
		return -EIO;
	if (errno == EAGAIN)
		return -ETIMEDOUT;
	return errno == EINTR ? -EINTR : -EIO;
}

static int receive(struct call *c)
{
	char buf[4096];
	ssize_t n = recv(c->fd, buf, sizeof(buf), 0);

	if (n <= 0)
		return broken(n);
	text_add(&c->in, buf, (size_t)n);
	return c->in.failed ? -ENOMEM : 0;
}

/* The next line of what was received, without its newline. */
static int head(struct call *c, char *buf, size_t size)
{
	const char *end;
	size_t len;
	int err;

	for (;;) {
		len = c->in.len - c->pos;
		end = len ? memchr(c->in.data + c->pos, '\n', len) : NULL;
		if (end)
			break;
		if (len >= size)
			return -EIO;
		err = receive(c);
		if (err)
			return err;
	}
	len = (size_t)(end - (c->in.data + c->pos));
	if (len >= size)
		return -EIO;
	memcpy(buf, c->in.data + c->pos, len);
	buf[len] = '\0';
	c->pos += len + 1;
	return 0;
}

/* "EBUSY not while ..." is -EBUSY. */
static int named_errno(char *s)
{
	s[strcspn(s, " ")] = '\0';
	for (int e = 1; e <= ERRNO_MAX; e++) {
		const char *name = strerrorname_np(e);

		if (name && !strcmp(name, s))
			return -e;
	}
	return -EIO;
}

int call_say(struct call *c, const char *line, struct text *body)
{
	struct text out = { 0 };
	char buf[CALL_HEAD_MAX], *end;
	unsigned long len;
	ssize_t n;
	int err;

	text_add(&out, line, strlen(line));
	text_add(&out, "\n", 1);
	if (out.failed) {
		text_free(&out);
		return -ENOMEM;
	}
	n = send(c->fd, out.data, out.len, MSG_NOSIGNAL);
	err = n == (ssize_t)out.len ? 0 : broken(n);
	text_free(&out);
	err = err ? err : head(c, buf, sizeof(buf));
	if (err)
		return err;
	if (!strncmp(buf, "error ", 6))
		return named_errno(buf + 6);
	if (strncmp(buf, "ok ", 3))
		return -EIO;
	len = strtoul(buf + 3, &end, 10);
	if (*end || len > CALL_BODY_MAX)
		return -EIO;
	while (!err && c->in.len - c->pos < len)
		err = receive(c);
	if (err)
		return err;
	text_add(body, c->in.data + c->pos, len);
	c->pos += len;
	return body->failed ? -ENOMEM : 0;
}
