/* SPDX-License-Identifier: MIT */
/*
 * clients.c - see clients.h.
 *
 * Death. The end of the connection and the end of the process (pidfd) both end a session: a process
 * that closed its end on purpose wants no more merging, and a child that inherited the socket must
 * not keep the session of a dead parent. The grace period guards what its descendants still map.
 */
#include "daemon/clients.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/container.h"
#include "base/usdt.h"
#include "daemon/daemon.h"
#include "daemon/session_send.h"

#define BURY_MS 5           /* of a turn */
#define EPOCHS_DELAY_MS 200 /* collect retired frames before asking every client to move on */

int clients_init(struct clients *c, struct daemon *d)
{
	int err = loop_init(&c->loop);

	c->d = d;
	c->next_id = 1;
	TAILQ_INIT(&c->all);
	TAILQ_INIT(&c->unfinished);
	TAILQ_INIT(&c->dead);
	TAILQ_INIT(&c->working);
	c->by_pid = cds_lfht_new(64, 64, 0, CDS_LFHT_AUTO_RESIZE | CDS_LFHT_ACCOUNTING, NULL);
	return err ? err : c->by_pid ? 0 : -ENOMEM;
}

void clients_deinit(struct clients *c)
{
	if (c->by_pid)
		cds_lfht_destroy(c->by_pid, NULL);
	loop_deinit(&c->loop);
}

void clients_add(struct clients *c, struct session *s)
{
	s->clients = c;
	TAILQ_INSERT_TAIL(&c->all, s, link);
	TAILQ_INSERT_TAIL(&c->unfinished, s, unfinished);
}

void clients_finished(struct session *s)
{
	TAILQ_REMOVE(&s->clients->unfinished, s, unfinished);
	charge_set(&s->d->accounts, &s->charge, s->uid, ACCOUNT_UNFINISHED, 0);
}

/* ---- the table by pid ---- */

static unsigned long pid_hash(pid_t pid)
{
	/* Knuth's multiplicative hash: neighbouring pids into different buckets. */
	return (unsigned long)pid * 2654435761ul;
}

/* Not the list macros of liburcu, which step back from a null pointer at the end. */
struct session *clients_node(struct cds_lfht_node *node)
{
	struct session *s = container_of(node, struct session, by_pid);

	(void)atomic_load_explicit(&s->mm, memory_order_acquire); /* see session.h */
	return s;
}

static int match_pid(struct cds_lfht_node *node, const void *key)
{
	return clients_node(node)->pid == *(const pid_t *)key;
}

struct session *clients_find(struct clients *c, pid_t pid)
{
	struct cds_lfht_iter iter;
	struct cds_lfht_node *node;

	cds_lfht_lookup(c->by_pid, pid_hash(pid), match_pid, &pid, &iter);
	node = cds_lfht_iter_get_node(&iter);
	return node ? clients_node(node) : NULL;
}

bool clients_elsewhere(const struct session *s)
{
	struct cds_lfht *table = s->clients->by_pid;
	struct cds_lfht_iter iter;
	struct cds_lfht_node *node;
	bool found = false;

	rcu_read_lock();
	cds_lfht_lookup(table, pid_hash(s->pid), match_pid, &s->pid, &iter);
	while (!found && (node = cds_lfht_iter_get_node(&iter))) {
		const struct domain *d = clients_node(node)->domain;

		found = d != s->domain && d->key.kind != KIND_ALONE;
		cds_lfht_next_duplicate(table, match_pid, &s->pid, &iter);
	}
	rcu_read_unlock();
	return found && s->domain->key.kind != KIND_ALONE;
}

void clients_enter(struct session *s)
{
	s->clients->nr_clients++;
	TAILQ_INSERT_TAIL(&s->domain->members, s, member);
	rcu_read_lock();
	cds_lfht_add(s->clients->by_pid, pid_hash(s->pid), &s->by_pid);
	rcu_read_unlock();
	USDT(ksm_enter, (struct mm_slot *)s->mm, s->pid);
}

/* Out of the table, the trees and the counters. */
static void leave(struct session *s)
{
	struct clients *c = s->clients;

	USDT(ksm_exit, (struct mm_slot *)s->mm, s->pid);
	loop_unwatch(&s->pidfd_watch);
	rcu_read_lock();
	cds_lfht_del(c->by_pid, &s->by_pid);
	rcu_read_unlock();
	TAILQ_REMOVE(&s->domain->members, s, member);
	s->exit = (struct span){ 0, KSM_ADDR_END };
	if (s->work.queued)
		TAILQ_REMOVE(&c->working, s, work.link);
	c->nr_clients--;
	clients_epochs_soon(c);
}

/* ---- the end of a session ---- */

void clients_epochs_soon(struct clients *c)
{
	loop_timer_hasten(&c->epochs_timer, clock_ms() + EPOCHS_DELAY_MS);
}

void client_drop(struct session *s)
{
	struct clients *c = s->clients;

	if (s->state == SESSION_DEAD)
		return;
	if (s->state != SESSION_READY)
		clients_finished(s);
	session_move(s, SESSION_DEAD);
	loop_unwatch(&s->sock_watch);
	shutdown(s->sock, SHUT_RDWR); /* the closer reads what is left, and closes it */
	if (s->mm)
		leave(s);
	if (s->unmerge_awaited)
		loop_timer_set(&c->unmerge_timer, 0); /* it may have been the last */
	TAILQ_REMOVE(&c->all, s, link);
	TAILQ_INSERT_TAIL(&c->dead, s, link);
	loop_timer_set(&c->bury_timer, 0);
}

void client_fail(struct session *s, enum error_kind kind, int error, const char *fmt, ...)
{
	char text[KSM_ERROR_TEXT];
	va_list ap;

	if (s->state == SESSION_DEAD)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	session_send_error(s, error, text);
	if (kind != ERR_TIMEOUT && kind != ERR_LIMIT && kind != ERR_ENDED &&
	    kind != ERR_NOT_ALLOWED)
		s->clients->protocol_errors++;
	log_limited(&s->clients->limit[kind], kind == ERR_ENDED ? LOG_DEBUG : LOG_WARNING,
		    "client %d of user %u dropped: %s", (int)s->pid, s->uid, text);
	client_drop(s);
}

/*
 * A client that had gigabytes, or a million regions, takes long to forget, so it is done in pieces.
 * What finds no memory for a piece is forgotten at the end. False: some are left at that time.
 */
static bool forgotten(struct session *s, uint64_t until_ms)
{
	while (!span_empty(s->exit)) {
		struct span at = engine_part(s->mm, s->exit);

		engine_region_del(s->mm, at.start, at.end);
		s->exit.start = at.end;
		if (clock_ms() >= until_ms)
			return false;
	}
	engine_mm_exit(s->mm);
	clients_epochs_soon(s->clients);
	return true;
}

void clients_bury(struct clients *c)
{
	uint64_t until_ms = clock_ms() + BURY_MS;
	struct session *s;

	while ((s = TAILQ_FIRST(&c->dead))) {
		if (s->mm && !forgotten(s, until_ms)) {
			loop_timer_set(&c->bury_timer, 0);
			return;
		}
		TAILQ_REMOVE(&c->dead, s, link);
		if (s->mm)
			mm_put(s->mm); /* client_ops.c does the rest, after readers are done */
		else
			session_free(s);
	}
}
