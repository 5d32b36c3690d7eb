/* SPDX-License-Identifier: MIT */
/* lines.c - see lines.h. */
#include "daemon/lines.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/container.h"
#include "daemon/closer.h"
#include "daemon/rights.h"

void lines_close(struct lines *l)
{
	if (l->closed)
		return;
	l->closed = true;
	loop_unwatch(&l->watch);
	closer_take(l->closer, CLOSER_SOCKET, l->watch.fd, l->uid);
	text_free(&l->out);
	l->ops->closed(l);
}

void lines_farewell(int fd, const char *text)
{
	send(fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* May the next line be taken? */
static bool may_take(const struct lines *l)
{
	return !l->closed && !l->closing && !l->held && l->out.len < LINES_OUT;
}

/* Is there a whole line that could be taken at once? */
static bool has_more(const struct lines *l)
{
	return may_take(l) && memchr(l->in, '\n', l->in_len);
}

/*
 * Ask the loop for what is of use now: input while lines are taken, output if there is some, and
 * another turn (there is room for output) if lines are left.
 */
static void watch(struct lines *l)
{
	bool more = has_more(l), in = may_take(l) && !more && !l->eof;

	loop_watch_set(&l->watch, (in ? (uint32_t)EPOLLIN : 0) |
					  (more || l->out.len ? (uint32_t)EPOLLOUT : 0));
}

static void write_out(struct lines *l)
{
	while (l->out.len) {
		ssize_t n = send(l->watch.fd, l->out.data, l->out.len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			lines_close(l);
		if (n < 0)
			return;
		text_consume(&l->out, (size_t)n);
	}
	if (l->closing)
		lines_close(l);
}

/* Take whole lines as long as there is room for answers, but leave the others their turn. */
static void take_lines(struct lines *l)
{
	size_t done = 0;

	for (int nr = 0; nr < LINES_TURN && may_take(l); nr++) {
		char *line = l->in + done, *end = memchr(line, '\n', l->in_len - done);

		if (!end)
			break;
		*end = '\0';
		done += (size_t)(end - line) + 1;
		l->ops->line(l, line, (size_t)(end - line));
		if (l->out.failed)
			lines_close(l); /* an answer was lost because there is no memory */
	}
	l->in_len -= done;
	memmove(l->in, l->in + done, l->in_len);
	if (!l->closed && l->in_len == LINES_MAX && !memchr(l->in, '\n', l->in_len)) {
		l->ops->too_long(l);
		l->closing = true;
	}
}

/* Everything that may have become possible: lines, output, the end. */
static void progress(struct lines *l)
{
	take_lines(l);
	if (!l->closed)
		write_out(l);
	if (l->closed)
		return;
	if (l->eof && !l->held && l->out.len < LINES_OUT && !has_more(l)) {
		l->closing = true;
		if (!l->out.len) {
			lines_close(l);
			return;
		}
	}
	watch(l);
}

static void read_in(struct lines *l)
{
	struct rights r;
	ssize_t n = rights_receive(l->watch.fd, l->in + l->in_len, LINES_MAX - l->in_len, &r);

	for (int i = 0; i < r.nr; i++)
		closer_take(l->closer, CLOSER_STRANGE, r.fd[i], l->uid);
	if (r.nr || r.cut || (n < 0 && n != -EAGAIN && n != -EINTR))
		lines_close(l);
	if (l->closed || n < 0)
		return;
	l->eof = n == 0;
	l->in_len += (size_t)n;
	l->ops->heard(l);
}

static void ready(struct loop_watch *w, uint32_t events)
{
	struct lines *l = container_of(w, struct lines, watch);

	if (events & EPOLLIN)
		read_in(l);
	else if (events & (EPOLLHUP | EPOLLERR))
		lines_close(l);
	if (!l->closed)
		progress(l);
}

int lines_open(struct lines *l, struct loop *loop, int fd, const struct lines_ops *ops)
{
	l->ops = ops;
	return loop_watch(loop, &l->watch, fd, EPOLLIN, ready);
}

void lines_hold(struct lines *l)
{
	l->held = true;
}

void lines_answered(struct lines *l)
{
	l->held = false;
	if (l->out.failed)
		lines_close(l);
	else
		progress(l);
}
