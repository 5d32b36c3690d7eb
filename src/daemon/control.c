/* SPDX-License-Identifier: MIT */
/*
 * control.c - see control.h.
 *
 * What one peer can cost is bounded: the buffers of its connection (lines.h), of which there are at
 * most MAX_CONNS, a minute of silence, and a few lines of each turn of the loop. When a user has
 * too many connections, or all places are taken, one gives way: of the user with the most of them,
 * the one that has been quiet longest. So the idle connections of one user do not lock out others.
 * Some places are kept for operators, and an operator's connection never gives way to others'.
 *
 * No command takes a descriptor. Where the kernel can, peers are not able to send any; elsewhere a
 * connection that brings one is closed. The closer gets it, as it gets every socket.
 *
 * Nothing waits here. The answer to a store that takes time (`run` set to 2) is held; a store that
 * has to come after it is kept and tried again. The others are served meanwhile.
 */
#include "daemon/control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/container.h"
#include "base/log.h"
#include "base/listener.h"
#include "base/loop.h"
#include "daemon/attr.h"
#include "daemon/closer.h"
#include "daemon/command.h"
#include "daemon/lines.h"
#include "daemon/peer.h"
#include "daemon/rights.h"

#define MAX_CONNS 64        /* operators and monitors; far more than a machine has */
#define MAX_CONNS_OTHERS 48 /* of all who are no operators */
#define MAX_CONNS_PER_USER 16
#define IDLE_MS 60000 /* longer than any interval at which a monitor would reconnect anyway */

_Static_assert(COMMAND_MAX + 1 == LINES_MAX, "a command is a line without its newline");

/* What a connection waits for: its answer, or to be tried again. */
enum wait { WAIT_NO, WAIT_ANSWER, WAIT_RETRY };

/*
 * A connection stands in one of the control's lists: idle (WAIT_NO), waiting, or dead. A dead one
 * is freed at the end of the loop's turn, because callers up the stack still look at it.
 */
struct conn {
	struct lines lines;
	struct control *owner;
	struct attr_viewer viewer;
	uint64_t active_ms;
	enum wait wait;
	char command[COMMAND_MAX]; /* to be tried again */
	size_t command_len;
	struct conn_list *list;
	TAILQ_ENTRY(conn) link;
};
TAILQ_HEAD(conn_list, conn);

struct control {
	const struct attr_tree *tree;
	const struct group_set *operators;
	struct closer *closer;
	struct loop *loop;
	struct listener listener;
	struct loop_timer idle_timer; /* set whenever `idle` is not empty, and never too late */
	struct loop_timer dead_timer;
	struct conn_list idle;    /* least recently active first; not all that idle, mostly */
	struct conn_list waiting; /* in the order in which they began */
	struct conn_list dead;
	unsigned int nr_conns;  /* without the dead */
	unsigned int nr_others; /* those of them that are no operators' */
	unsigned int nr_waiting;
	struct log_limit limit;
};

static void move(struct conn *c, struct conn_list *to)
{
	if (c->list)
		TAILQ_REMOVE(c->list, c, link);
	TAILQ_INSERT_TAIL(to, c, link);
	c->list = to;
}

static void active(struct conn *c)
{
	c->active_ms = clock_ms();
	move(c, &c->owner->idle);
	loop_timer_hasten(&c->owner->idle_timer, c->active_ms + IDLE_MS);
}

/* ---- commands, and waiting for what they set off ---- */

static void wait_for(struct conn *c, enum wait what)
{
	c->wait = what;
	move(c, &c->owner->waiting);
	c->owner->nr_waiting++;
	lines_hold(&c->lines);
}

static void wait_no_more(struct conn *c)
{
	c->wait = WAIT_NO;
	c->owner->nr_waiting--;
	active(c);
}

static void run(struct conn *c, const char *line, size_t len)
{
	int ret = command_run(c->owner->tree, &c->viewer, line, len, &c->lines.out);

	if (ret == ATTR_PENDING) {
		wait_for(c, WAIT_ANSWER);
	} else if (ret == ATTR_LATER) {
		memmove(c->command, line, len);
		c->command_len = len;
		wait_for(c, WAIT_RETRY);
	}
}

/* Answer those that wait now; a retry that has to wait again comes behind them. */
static void finished(struct control *ctl, int err, const char *why)
{
	for (unsigned int nr = ctl->nr_waiting; nr; nr--) {
		struct conn *c = TAILQ_FIRST(&ctl->waiting);
		enum wait what = c->wait;

		wait_no_more(c);
		if (what == WAIT_ANSWER)
			command_finished(&c->lines.out, err, why);
		else
			run(c, c->command, c->command_len);
		if (c->wait == WAIT_NO)
			lines_answered(&c->lines);
	}
}

void control_finish(struct control *ctl)
{
	struct text why = { 0 };
	int ret = attr_finish(ctl->tree, &why);

	text_add(&why, "", 1);
	if (ret <= 0)
		finished(ctl, ret, why.failed ? "out of memory" : why.data);
	text_free(&why);
}

/* ---- what a connection reports ---- */

static struct conn *conn_of(struct lines *l)
{
	return container_of(l, struct conn, lines);
}

static void on_heard(struct lines *l)
{
	active(conn_of(l));
}

static void on_line(struct lines *l, const char *line, size_t len)
{
	run(conn_of(l), line, len);
}

static void on_too_long(struct lines *l)
{
	command_error(&l->out, E2BIG, "a line has at most 4095 characters");
}

static void on_closed(struct lines *l)
{
	struct conn *c = conn_of(l);

	if (c->wait != WAIT_NO)
		c->owner->nr_waiting--;
	c->wait = WAIT_NO;
	move(c, &c->owner->dead);
	c->owner->nr_conns--;
	c->owner->nr_others -= !c->viewer.is_operator;
	loop_timer_set(&c->owner->dead_timer, 0);
}

static const struct lines_ops ops = { on_heard, on_line, on_too_long, on_closed };

/* ---- timers ---- */

static void free_dead(struct control *ctl)
{
	struct conn *c;

	while ((c = TAILQ_FIRST(&ctl->dead))) {
		TAILQ_REMOVE(&ctl->dead, c, link);
		free(c);
	}
}

static void on_dead(struct loop_timer *t, uint64_t now_ms)
{
	(void)now_ms;
	free_dead(container_of(t, struct control, dead_timer));
}

static void on_idle(struct loop_timer *t, uint64_t now_ms)
{
	struct control *ctl = container_of(t, struct control, idle_timer);
	struct conn *c;

	while ((c = TAILQ_FIRST(&ctl->idle)) && c->active_ms + IDLE_MS <= now_ms) {
		lines_farewell(c->lines.watch.fd,
			       "error ETIMEDOUT nothing was said for a minute\n");
		lines_close(&c->lines);
	}
	loop_timer_set(t, c ? c->active_ms + IDLE_MS : CLOCK_NEVER);
}

/* ---- accepting ---- */

static unsigned int conns_of(const struct control *ctl, uid_t uid)
{
	const struct conn *c;
	unsigned int nr = 0;

	TAILQ_FOREACH(c, &ctl->idle, link)
	nr += c->lines.uid == uid;
	return nr;
}

/*
 * The least recently active one of the user with most connections: of operators' or of others'. One
 * that waits is left alone.
 */
static struct conn *to_evict(struct control *ctl, bool operators)
{
	struct conn *c, *victim = NULL;
	unsigned int most = 0;

	TAILQ_FOREACH(c, &ctl->idle, link)
	{
		unsigned int nr = conns_of(ctl, c->lines.uid);

		if (c->viewer.is_operator == operators && nr > most) {
			most = nr;
			victim = c;
		}
	}
	return victim;
}

static struct conn *oldest_of(struct control *ctl, uid_t uid)
{
	struct conn *c;

	TAILQ_FOREACH(c, &ctl->idle, link)
	if (c->lines.uid == uid)
		break;
	return c;
}

static bool too_many(const struct control *ctl, const struct attr_viewer *v)
{
	return ctl->nr_conns >= MAX_CONNS ||
	       (!v->is_operator && ctl->nr_others >= MAX_CONNS_OTHERS);
}

static bool make_room(struct control *ctl, const struct attr_viewer *v, uid_t uid)
{
	struct conn *c = NULL;

	if (!v->is_operator && conns_of(ctl, uid) >= MAX_CONNS_PER_USER) {
		c = oldest_of(ctl, uid);
	} else if (!too_many(ctl, v)) {
		return true;
	} else {
		log_limited(&ctl->limit, LOG_WARNING, "more than %u control connections",
			    ctl->nr_conns);
		c = to_evict(ctl, false);
		if (!c && v->is_operator)
			c = to_evict(ctl, true);
	}
	if (!c)
		return false;
	lines_farewell(c->lines.watch.fd,
		       "error EMFILE too many connections, this one was idle longest\n");
	lines_close(&c->lines);
	return true;
}

/* Whoever a user namespace does not map is nobody in particular, and owns nothing. */
static struct attr_viewer viewer_of(const struct control *ctl, int fd, const struct ucred *peer)
{
	return (struct attr_viewer){
		.uid = peer->uid == PEER_OVERFLOW_UID ? PEER_NOBODY : peer->uid,
		.is_operator = peer_may(fd, peer, ctl->operators),
	};
}

static void turn_away(struct listener *l, int fd)
{
	struct control *ctl = container_of(l, struct control, listener);
	struct ucred peer = { .uid = geteuid() };
	socklen_t len = sizeof(peer);

	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
	lines_farewell(fd, "error EMFILE the daemon has no descriptors left\n");
	closer_take(ctl->closer, CLOSER_SOCKET, fd, peer.uid);
}

static void admit(struct listener *l, int fd)
{
	struct control *ctl = container_of(l, struct control, listener);
	struct conn *c = NULL;
	struct attr_viewer viewer = { 0 };
	struct ucred peer = { .uid = geteuid() };
	socklen_t len = sizeof(peer);

	if (!getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len)) {
		viewer = viewer_of(ctl, fd, &peer);
		if (make_room(ctl, &viewer, peer.uid))
			c = calloc(1, sizeof(*c));
	}
	if (c) {
		c->lines.closer = ctl->closer;
		c->lines.uid = peer.uid;
	}
	if (!c || lines_open(&c->lines, ctl->loop, fd, &ops)) {
		turn_away(l, fd);
		free(c);
		return;
	}
	c->owner = ctl;
	c->viewer = viewer;
	ctl->nr_conns++;
	ctl->nr_others += !viewer.is_operator;
	active(c);
}

/* ---- life ---- */

struct control *control_new(const struct attr_tree *tree, const struct group_set *operators,
			    struct loop *loop, struct closer *closer, int listen_fd)
{
	struct control *ctl = calloc(1, sizeof(*ctl));
	int err;

	if (!ctl) {
		close(listen_fd);
		return NULL;
	}
	ctl->tree = tree;
	ctl->operators = operators;
	ctl->loop = loop;
	ctl->closer = closer;
	rights_accept(listen_fd, false);
	TAILQ_INIT(&ctl->idle);
	TAILQ_INIT(&ctl->waiting);
	TAILQ_INIT(&ctl->dead);
	loop_timer_add(loop, &ctl->idle_timer, on_idle);
	loop_timer_add(loop, &ctl->dead_timer, on_dead);
	listener_init(&ctl->listener, loop, listen_fd, admit, turn_away);
	err = listener_start(&ctl->listener, loop);
	if (!err)
		return ctl;
	control_free(ctl);
	errno = -err;
	return NULL;
}

void control_free(struct control *ctl)
{
	struct conn *c;

	while ((c = TAILQ_FIRST(&ctl->idle)) || (c = TAILQ_FIRST(&ctl->waiting)))
		lines_close(&c->lines);
	free_dead(ctl);
	closer_take(ctl->closer, CLOSER_LISTENER, listener_close(&ctl->listener), geteuid());
	free(ctl);
}
