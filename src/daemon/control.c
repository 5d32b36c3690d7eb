/* SPDX-License-Identifier: MIT */
/*
 * control.c - see control.h.
 *
 * Any bytes may come, in any pieces, from up to MAX_CONNS peers at a time. What one of them can cost
 * is bounded: a line of 4096 bytes, an output buffer that stops further commands until it is read,
 * a minute of silence. When all places are taken, the peer that has been quiet longest among those of
 * the user with the most connections gives way, so that one user's idle connections do not lock others
 * out.
 *
 * Nothing waits here. A store that takes time (`run` set to 2) parks its connection; the others are
 * served meanwhile, and it gets its answer when the job is done.
 */
#include "daemon/control.h"

#include <errno.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/attr.h"
#include "base/clock.h"
#include "base/log.h"

#define MAX_CONNS 64 /* operators and monitors; far more than a machine has */
#define MAX_LINE 4096
/* Unread answers above this stop further commands: a few of the largest (a list of all clients). */
#define MAX_OUT 65536
#define IDLE_MS 60000 /* longer than any interval at which a monitor would reconnect anyway */

#define COMMANDS "commands are: get PATH, set PATH VALUE, ls [-l] [PATH]"

enum park { PARK_NO, PARK_RESULT, PARK_RETRY };

struct conn {
	struct control *owner;
	int fd;
	uid_t uid;
	char in[MAX_LINE + 1]; /* one more for a NUL */
	size_t in_len;
	struct text out;
	uint32_t events; /* what epoll was asked for */
	uint64_t active_ms;
	enum park park;             /* waits for the unmerge job: its result, or to try again */
	char command[MAX_LINE + 1]; /* to be tried again */
	bool eof;                   /* peer has sent all it will */
	bool closing;               /* close once the output is out */
	bool dead;                  /* in control.dead */
	TAILQ_ENTRY(conn) link;
};
TAILQ_HEAD(conn_list, conn);

struct control {
	const struct attr_tree *tree;
	int epoll, listen;
	struct conn_list conns; /* least recently active first */
	struct conn_list dead;  /* freed after the round of events */
	unsigned int nr_conns;
	struct log_limit limit;
};

/* ---- connections ---- */

static void drop(struct conn *c)
{
	if (c->dead)
		return;
	epoll_ctl(c->owner->epoll, EPOLL_CTL_DEL, c->fd, NULL);
	close(c->fd);
	text_free(&c->out);
	c->dead = true;
	TAILQ_REMOVE(&c->owner->conns, c, link);
	TAILQ_INSERT_TAIL(&c->owner->dead, c, link);
	c->owner->nr_conns--;
}

static void touch(struct conn *c)
{
	c->active_ms = clock_ms();
	TAILQ_REMOVE(&c->owner->conns, c, link);
	TAILQ_INSERT_TAIL(&c->owner->conns, c, link);
}

static void reply_error(struct conn *c, int err, const char *what)
{
	text_printf(&c->out, "error %s %s\n", strerrorname_np(err), what);
}

/* Ask epoll for what we can use now: input unless parked or full, output if there is some. */
static void watch(struct conn *c)
{
	bool in = !c->closing && !c->eof && c->park == PARK_NO && c->out.len < MAX_OUT;
	struct epoll_event ev = {
		.events = (in ? (uint32_t)EPOLLIN : 0) | (c->out.len ? (uint32_t)EPOLLOUT : 0),
		.data.ptr = c,
	};

	if (ev.events != c->events && !epoll_ctl(c->owner->epoll, EPOLL_CTL_MOD, c->fd, &ev))
		c->events = ev.events;
}

static void write_out(struct conn *c)
{
	while (c->out.len) {
		ssize_t n = send(c->fd, c->out.data, c->out.len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			drop(c);
		if (n < 0)
			return;
		text_consume(&c->out, (size_t)n);
	}
	if (c->closing)
		drop(c);
}

/* ---- commands ---- */

static const char *explain(int err, const char *command)
{
	switch (err) {
	case ENOENT:
		return "there is no such path";
	case EISDIR:
		return "that is a directory: use ls";
	case ENOTDIR:
		return "that is not a directory: use get";
	case EACCES:
		return "that cannot be set";
	case EBUSY:
		return "not while pages are shared: set ksm/run to 2 first";
	case EINVAL:
		return !strcmp(command, "set") ? "not a valid value, see get help/PATH" :
						 "not a valid command";
	default:
		return strerror(err);
	}
}

static void reply_body(struct conn *c, int err, const char *command, struct text *body)
{
	if (err) {
		reply_error(c, -err, explain(-err, command));
	} else {
		text_printf(&c->out, "ok %zu\n", body->len);
		text_add(&c->out, body->data, body->len);
	}
	text_free(body);
}

static void do_get(struct conn *c, const char *path)
{
	struct text body = { 0 };
	int err = attr_get(c->owner->tree, path, &body);

	reply_body(c, err, "get", &body);
}

static void do_ls(struct conn *c, const char *path)
{
	struct text body = { 0 };
	bool modes = !strncmp(path, "-l", 2) && (path[2] == ' ' || !path[2]);
	int err;

	if (modes)
		path += path[2] ? 3 : 2;
	if (strchr(path, ' ')) {
		reply_error(c, EINVAL, COMMANDS);
		return;
	}
	err = attr_ls(c->owner->tree, path, modes, &body);

	reply_body(c, err, "ls", &body);
}

/* `line` is the whole command, kept in case it must be tried again. */
static void do_set(struct conn *c, const char *path, const char *value, const char *line)
{
	struct text none = { 0 };
	int ret;

	if (c->uid != 0 && c->uid != geteuid()) {
		reply_error(c, EACCES, "only root and the daemon's user may set");
		return;
	}
	ret = attr_set(c->owner->tree, path, value);
	if (ret == ATTR_LATER) {
		c->park = PARK_RETRY;
		memcpy(c->command, line, strlen(line) + 1);
	} else if (ret == ATTR_PENDING) {
		c->park = PARK_RESULT;
	} else {
		reply_body(c, ret, "set", &none);
	}
}

static void execute(struct conn *c, const char *line)
{
	char buf[MAX_LINE + 1], *path, *value = NULL;

	memcpy(buf, line, strlen(line) + 1);
	path = strchr(buf, ' ');
	if (path)
		*path++ = '\0';
	if (!strcmp(buf, "set") && path) {
		value = strchr(path, ' ');
		if (value)
			*value++ = '\0';
	}
	if (!strcmp(buf, "get") && path && !strchr(path, ' '))
		do_get(c, path);
	else if (!strcmp(buf, "ls"))
		do_ls(c, path ? path : "");
	else if (!strcmp(buf, "set") && value)
		do_set(c, path, value, line);
	else
		reply_error(c, EINVAL, COMMANDS);
}

static bool has_control_chars(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)s[i] < ' ' || s[i] == 0x7f)
			return true;
	return false;
}

/* May the next command be carried out? Not while an answer is due or nobody reads the last ones. */
static bool may_run(const struct conn *c)
{
	return !c->dead && !c->closing && c->park == PARK_NO && c->out.len < MAX_OUT;
}

static void run_line(struct conn *c, const char *line, size_t len)
{
	if (has_control_chars(line, len))
		reply_error(c, EINVAL, "control characters in the line");
	else
		execute(c, line);
	if (c->out.failed)
		drop(c); /* an answer was lost for want of memory */
}

/* Carry out complete lines as long as there is room for answers. */
static void run_lines(struct conn *c)
{
	size_t done = 0;

	while (may_run(c)) {
		char *line = c->in + done, *end = memchr(line, '\n', c->in_len - done);

		if (!end)
			break;
		*end = '\0';
		done += (size_t)(end - line) + 1;
		run_line(c, line, (size_t)(end - line));
	}
	c->in_len -= done;
	memmove(c->in, c->in + done, c->in_len);
	if (!c->dead && c->in_len == MAX_LINE && !memchr(c->in, '\n', c->in_len)) {
		reply_error(c, E2BIG, "a line has at most 4095 characters");
		c->closing = true;
	}
}

/* Everything that may have become possible: commands, output, the end. */
static void progress(struct conn *c)
{
	do {
		run_lines(c);
		if (!c->dead)
			write_out(c);
	} while (may_run(c) && memchr(c->in, '\n', c->in_len));
	if (c->dead)
		return;
	/* A peer that has shut down its side still gets its answers. */
	if (c->eof && c->park == PARK_NO && c->out.len < MAX_OUT) {
		c->closing = true;
		if (!c->out.len) {
			drop(c);
			return;
		}
	}
	watch(c);
}

static void read_in(struct conn *c)
{
	ssize_t n = recv(c->fd, c->in + c->in_len, MAX_LINE - c->in_len, MSG_DONTWAIT);

	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			drop(c);
		return;
	}
	c->eof = n == 0;
	c->in_len += (size_t)n;
	touch(c);
}

/* ---- accepting ---- */

static unsigned int conns_of(const struct control *ctl, uid_t uid)
{
	const struct conn *c;
	unsigned int nr = 0;

	TAILQ_FOREACH(c, &ctl->conns, link)
	nr += c->uid == uid;
	return nr;
}

/* Least recently active, of the user with most connections; not one that waits for its answer. */
static struct conn *to_evict(struct control *ctl)
{
	struct conn *c, *victim = NULL;
	unsigned int most = 0;

	TAILQ_FOREACH(c, &ctl->conns, link)
	{
		unsigned int nr = c->park == PARK_NO ? conns_of(ctl, c->uid) : 0;

		if (nr > most) {
			most = nr;
			victim = c;
		}
	}
	return victim;
}

static void last_words(int fd, const char *text)
{
	send(fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL);
}

static bool make_room(struct control *ctl)
{
	struct conn *c;

	if (ctl->nr_conns < MAX_CONNS)
		return true;
	log_limited(&ctl->limit, KSMD_WARNING, "more than %d control connections", MAX_CONNS);
	c = to_evict(ctl);
	if (!c)
		return false;
	last_words(c->fd, "error EMFILE too many connections, this one was idle longest\n");
	drop(c);
	return true;
}

static void admit(struct control *ctl, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN };
	struct conn *c = NULL;
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (!getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) && make_room(ctl))
		c = calloc(1, sizeof(*c));
	ev.data.ptr = c;
	if (!c || epoll_ctl(ctl->epoll, EPOLL_CTL_ADD, fd, &ev)) {
		last_words(fd, "error EMFILE too many connections\n");
		close(fd);
		free(c);
		return;
	}
	c->owner = ctl;
	c->fd = fd;
	c->uid = peer.uid;
	c->events = EPOLLIN;
	c->active_ms = clock_ms();
	TAILQ_INSERT_TAIL(&ctl->conns, c, link);
	ctl->nr_conns++;
}

static void accept_all(struct control *ctl)
{
	int fd;

	while ((fd = accept4(ctl->listen, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0)
		admit(ctl, fd);
}

void control_event(struct control *ctl, const struct epoll_event *ev)
{
	struct conn *c = ev->data.ptr;

	if (ev->data.ptr == ctl) {
		accept_all(ctl);
		return;
	}
	if (c->dead)
		return;
	if (ev->events & EPOLLIN)
		read_in(c);
	else if (ev->events & (EPOLLHUP | EPOLLERR))
		drop(c);
	if (!c->dead)
		progress(c);
}

/* ---- waiting for an unmerge ---- */

/* What a store set off is done: say so, and try again what had to wait for it. */
static void settled(struct control *ctl, int err, const char *why)
{
	struct conn *c, *next;

	for (c = TAILQ_FIRST(&ctl->conns); c; c = next) {
		enum park park = c->park;

		next = TAILQ_NEXT(c, link);
		c->park = PARK_NO;
		if (park == PARK_RESULT && err)
			reply_error(c, strerrorname_np(-err) ? -err : EIO, why);
		else if (park == PARK_RESULT)
			text_printf(&c->out, "ok 0\n");
		else if (park == PARK_RETRY)
			execute(c, c->command);
		if (park != PARK_NO)
			progress(c);
	}
}

static void look_for_settled(struct control *ctl)
{
	struct text why = { 0 };
	int ret = attr_settle(ctl->tree, &why);

	text_add(&why, "", 1);
	if (ret <= 0)
		settled(ctl, ret, why.data ? why.data : "");
	text_free(&why);
}

uint64_t control_run(struct control *ctl, uint64_t now_ms)
{
	uint64_t due = CLOCK_NEVER;
	struct conn *c, *next;

	look_for_settled(ctl);
	for (c = TAILQ_FIRST(&ctl->conns); c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (c->park != PARK_NO)
			continue;
		if (c->active_ms + IDLE_MS > now_ms) {
			due = c->active_ms + IDLE_MS;
			break;
		}
		last_words(c->fd, "error ETIMEDOUT nothing was said for a minute\n");
		drop(c);
	}
	while ((c = TAILQ_FIRST(&ctl->dead))) {
		TAILQ_REMOVE(&ctl->dead, c, link);
		free(c);
	}
	return due;
}

/* ---- life ---- */

struct control *control_new(const struct attr_tree *tree, int epoll, int listen_fd)
{
	struct epoll_event ev = { .events = EPOLLIN };
	struct control *ctl = calloc(1, sizeof(*ctl));

	ev.data.ptr = ctl;
	if (!ctl || epoll_ctl(epoll, EPOLL_CTL_ADD, listen_fd, &ev)) {
		close(listen_fd);
		free(ctl);
		return NULL;
	}
	ctl->tree = tree;
	ctl->epoll = epoll;
	ctl->listen = listen_fd;
	TAILQ_INIT(&ctl->conns);
	TAILQ_INIT(&ctl->dead);
	return ctl;
}

void control_free(struct control *ctl)
{
	struct conn *c;

	while ((c = TAILQ_FIRST(&ctl->conns)))
		drop(c);
	while ((c = TAILQ_FIRST(&ctl->dead))) {
		TAILQ_REMOVE(&ctl->dead, c, link);
		free(c);
	}
	close(ctl->listen);
	free(ctl);
}
