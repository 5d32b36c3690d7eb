/* SPDX-License-Identifier: MIT */
/*
 * talk.c - see talk.h. The protocol is that of src/daemon/control.h.
 *
 * The daemon may answer and hang up before it has read all of a line: one that is too long for it.
 * So a line is sent in one piece, and whatever sending came to, an answer that is there is read.
 */
#include "tools/control/talk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "wire/trust.h"

/* The longest store, run set to 2, is answered after 10 s at most (unmerge_job.h). */
#define TALK_TIMEOUT_S 30
#define TALK_BODY_MAX (64u << 20) /* more than all that a daemon can know of all its clients */
#define TALK_HEAD_MAX 1024u       /* "ok LENGTH", or an error with the pids it names */
#define ERRNO_MAX 133             /* EHWPOISON, the last that Linux has */

/* ---- the connection ---- */

int talk_socket(struct talk *t, const char *path)
{
	const struct timeval limit = { .tv_sec = TALK_TIMEOUT_S };

	*t = (struct talk){ .fd = -1, .sun = { .sun_family = AF_UNIX } };
	if (strlen(path) >= sizeof(t->sun.sun_path))
		return -ENAMETOOLONG;
	strcpy(t->sun.sun_path, path);
	t->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (t->fd < 0)
		return -errno;
	setsockopt(t->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(t->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	return 0;
}

int talk_connect(struct talk *t)
{
	return connect(t->fd, (const struct sockaddr *)&t->sun, sizeof(t->sun)) ? -errno : 0;
}

bool talk_trusted(const struct talk *t)
{
	return trust_dir(t->sun.sun_path) && trust_peer(t->fd);
}

void talk_close(struct talk *t)
{
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
	text_free(&t->in);
	t->pos = 0;
}

/* ---- what is said ---- */

/* What recv(2) or send(2) came to, which did not return a byte. */
static int broken(ssize_t n)
{
	if (n == 0)
		return -EIO;
	if (errno == EAGAIN)
		return -ETIMEDOUT;
	return errno == EINTR ? -EINTR : -EIO;
}

static int receive(struct talk *t)
{
	char buf[16384];
	ssize_t n = recv(t->fd, buf, sizeof(buf), 0);

	if (n <= 0)
		return broken(n);
	text_add(&t->in, buf, (size_t)n);
	return t->in.failed ? -ENOMEM : 0;
}

static int send_line(struct talk *t, const char *line)
{
	struct text out = { 0 };
	ssize_t n;
	int err;

	text_add(&out, line, strlen(line));
	text_add(&out, "\n", 1);
	n = out.failed ? -1 : send(t->fd, out.data, out.len, MSG_NOSIGNAL);
	if (out.failed)
		err = -ENOMEM;
	else
		err = n == (ssize_t)out.len ? 0 : broken(n);
	text_free(&out);
	return err;
}

/* The next line of what was received, without its newline. */
static int head(struct talk *t, char *buf, size_t size)
{
	const char *end;
	size_t len;
	int err;

	for (;;) {
		len = t->in.len - t->pos;
		end = len ? memchr(t->in.data + t->pos, '\n', len) : NULL;
		if (end)
			break;
		if (len >= size)
			return -EIO;
		err = receive(t);
		if (err)
			return err;
	}
	len = (size_t)(end - (t->in.data + t->pos));
	if (len >= size)
		return -EIO;
	memcpy(buf, t->in.data + t->pos, len);
	buf[len] = '\0';
	t->pos += len + 1;
	return 0;
}

/* "EBUSY not while ..." is -EBUSY. */
static int named_errno(const char *s)
{
	size_t len = strcspn(s, " ");

	for (int e = 1; e <= ERRNO_MAX; e++) {
		const char *name = strerrorname_np(e);

		if (name && strlen(name) == len && !memcmp(name, s, len))
			return -e;
	}
	return -EIO;
}

static int read_body(struct talk *t, const char *length, struct text *body)
{
	char *end;
	unsigned long len = strtoul(length, &end, 10);
	int err = *length < '0' || *length > '9' || *end || len > TALK_BODY_MAX ? -EIO : 0;

	while (!err && t->in.len - t->pos < len)
		err = receive(t);
	if (err)
		return err;
	text_add(body, t->in.data + t->pos, len);
	t->pos += len;
	if (t->pos == t->in.len) {
		t->in.len = t->pos = 0;
	}
	return body->failed ? -ENOMEM : 0;
}

int talk_say(struct talk *t, const char *line, struct text *body, struct text *why)
{
	char buf[TALK_HEAD_MAX];
	int sent = send_line(t, line), err = head(t, buf, sizeof(buf));

	if (err)
		return sent ? sent : err;
	if (!strncmp(buf, "error ", 6)) {
		if (why)
			text_add(why, buf + 6, strlen(buf + 6));
		return named_errno(buf + 6);
	}
	if (sent || strncmp(buf, "ok ", 3))
		return sent ? sent : -EIO;
	return read_body(t, buf + 3, body);
}

const char *talk_dumped(const char *dump, const char *name, size_t *len)
{
	size_t n = strlen(name);

	for (const char *l = dump; *l; l += strcspn(l, "\n"), l += *l == '\n')
		if (!strncmp(l, name, n) && l[n] == ' ') {
			*len = strcspn(l + n + 1, "\n");
			return l + n + 1;
		}
	return NULL;
}
