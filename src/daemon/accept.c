/* SPDX-License-Identifier: MIT */
/*
 * accept.c - see accept.h.
 *
 * Strangers first. Anyone may connect, say nothing, and do so a thousand times. A connection that
 * is not READY within five seconds is dropped. Of one user's unfinished connections the oldest
 * gives way to the newest, so a client that does speak is served however many others do not. Each
 * costs a descriptor and some 500 bytes.
 *
 * A client is handed /dev/userfaultfd, with which it can hold a thread in the middle of a system
 * call for as long as it likes, also after it has disconnected. The system may keep that from its
 * users (vm.unprivileged_userfaultfd=0), so only members of the operator's groups get that far.
 */
#include "daemon/accept.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/container.h"
#include "daemon/clients.h"
#include "daemon/daemon.h"
#include "daemon/rights.h"
#include "daemon/session_input.h"
#include "daemon/session_send.h"

/* A client that connects and says nothing must not hold a place; one on a loaded machine gets to
 * READY within milliseconds. */
#define HANDSHAKE_MS 5000
#define MAX_UNFINISHED_PER_UID 256u
#define MAX_UNFINISHED 1024u

/*
 * The session that gives way to a new one of this user, both being counted: the user's oldest
 * unfinished one when the user has too many, or the oldest of all.
 */
static struct session *unfinished_to_evict(struct clients *c, uid_t uid)
{
	struct account_table *t = &c->d->accounts;
	struct account_view user;
	struct session *s;

	account_read(t, uid, &user);
	if (user.held[ACCOUNT_UNFINISHED] > MAX_UNFINISHED_PER_UID) {
		TAILQ_FOREACH(s, &c->unfinished, unfinished)
		if (s->uid == uid)
			return s;
	}
	return account_total(t, ACCOUNT_UNFINISHED) > MAX_UNFINISHED ? TAILQ_FIRST(&c->unfinished) :
								       NULL;
}

static uid_t uid_of(int sock)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	return getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) ? geteuid() : cred.uid;
}

/* Turn a client away before it costs anything. */
static void refuse(struct clients *c, int sock, enum error_kind kind, int error, const char *text)
{
	struct ksm_msg_error msg = { .hdr = { KSM_MSG_ERROR, sizeof(msg) }, .error = error };

	snprintf(msg.text, sizeof(msg.text), "%s", text);
	send(sock, &msg, sizeof(msg), MSG_DONTWAIT | MSG_NOSIGNAL);
	log_limited(&c->limit[kind], LOG_WARNING, "connection refused: %s", text);
	closer_take(&c->d->closer, CLOSER_SOCKET, sock, uid_of(sock));
}

static void refuse_user(struct clients *c, int sock, uid_t uid)
{
	char text[KSM_ERROR_TEXT];

	c->refused++;
	snprintf(text, sizeof(text),
		 "user %u is in no group that may merge memory here: see --allow-group", uid);
	refuse(c, sock, ERR_NOT_ALLOWED, EACCES, text);
}

static void ready(struct loop_watch *w, uint32_t events)
{
	struct session *s = container_of(w, struct session, sock_watch);

	if (events & EPOLLOUT)
		session_flush(s);
	if (events & ~(uint32_t)EPOLLOUT)
		session_input(s);
}

/*
 * Does the user leave us with connections that cannot be closed? HELLO brings descriptors, so the
 * kernel has to let them through; but whose a connection is we learn only now. While many wait to
 * be closed, it lets them through to connections that were accepted, and the library tries again.
 */
static bool hard_to_close(struct clients *c, int sock, uid_t uid)
{
	bool guard = closer_guards(&c->d->closer);

	if (guard != c->guarded)
		rights_accept(c->listener.watch.fd, !guard);
	c->guarded = guard;
	if (closer_crowded(&c->d->closer, CLOSER_SOCKET, uid))
		return true;
	rights_accept(sock, true);
	return false;
}

static void admit(struct clients *c, int sock)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	struct session *s, *evicted;
	int err;

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) || cred.pid <= 0) {
		refuse(c, sock, ERR_LIMIT, ESRCH,
		       "your process cannot be seen from here (pid namespace)");
		return;
	}
	if (!peer_may(sock, &cred, &c->d->allowed)) {
		refuse_user(c, sock, cred.uid);
		return;
	}
	if (hard_to_close(c, sock, cred.uid)) {
		refuse(c, sock, ERR_LIMIT, EAGAIN,
		       "connections of your user are still being closed");
		return;
	}
	s = session_new(c->d, sock, &cred);
	if (!s && errno == EDQUOT) {
		refuse(c, sock, ERR_LIMIT, EDQUOT,
		       "too many clients, of your user or in all (limit/)");
		return;
	}
	if (!s) {
		refuse(c, sock, ERR_LIMIT, ENOMEM, "out of memory");
		return;
	}
	evicted = unfinished_to_evict(c, cred.uid);
	if (evicted)
		client_fail(evicted, ERR_LIMIT, EAGAIN, "too many unfinished connections");
	clients_add(c, s);
	err = loop_watch(&c->loop, &s->sock_watch, sock, EPOLLIN, ready);
	if (err)
		client_fail(s, ERR_LIMIT, -err, "cannot be watched");
	loop_timer_hasten(&c->silent_timer, s->accepted_ms + HANDSHAKE_MS);
}

static void turn_away(struct listener *l, int sock)
{
	refuse(container_of(l, struct clients, listener), sock, ERR_LIMIT, EMFILE,
	       "the daemon has no descriptors left");
}

static void on_connection(struct listener *l, int sock)
{
	admit(container_of(l, struct clients, listener), sock);
}

static void drop_silent(struct loop_timer *t, uint64_t now)
{
	struct clients *c = container_of(t, struct clients, silent_timer);
	struct session *s;

	while ((s = TAILQ_FIRST(&c->unfinished))) {
		if (s->accepted_ms + HANDSHAKE_MS > now) {
			loop_timer_set(t, s->accepted_ms + HANDSHAKE_MS);
			return;
		}
		client_fail(s, ERR_TIMEOUT, ETIMEDOUT, "handshake not finished within %d ms",
			    HANDSHAKE_MS);
	}
}

void accept_init(struct clients *c, int listen_fd)
{
	listener_init(&c->listener, &c->loop, listen_fd, on_connection, turn_away);
	loop_timer_add(&c->loop, &c->silent_timer, drop_silent);
}

int accept_start(struct clients *c)
{
	return listener_start(&c->listener, &c->loop);
}

void accept_deinit(struct clients *c)
{
	closer_take(&c->d->closer, CLOSER_LISTENER, listener_close(&c->listener), geteuid());
}
