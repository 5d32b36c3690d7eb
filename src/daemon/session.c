/* SPDX-License-Identifier: MIT */
/* session.c - see session.h: the object, its states and what it costs. */
#include "daemon/session.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/states.h"
#include "daemon/daemon.h"
#include "daemon/profit.h"

/* A client answers orders within milliseconds unless an operator or a debugger has stopped it, and
 * waiting for that does no harm; so the time is generous. */
#define STALL_MS 10000
/* A client tells of all it has within some milliseconds, and sends INFO a moment later. */
#define TOLD_MS 5000

bool session_move(struct session *s, enum session_state to)
{
	static const char *const name[SESSION_STATE_NR] = { "hello", "welcome", "ready", "dead" };
	static const uint32_t allowed[SESSION_STATE_NR] = {
		[SESSION_HELLO] = STATE_BIT(SESSION_WELCOME) | STATE_BIT(SESSION_DEAD),
		[SESSION_WELCOME] = STATE_BIT(SESSION_READY) | STATE_BIT(SESSION_DEAD),
		[SESSION_READY] = STATE_BIT(SESSION_DEAD),
	};
	static const struct states states = { "a session", name, allowed };

	return states_move(&states, &s->state, (int)to);
}

static int charge_stranger(struct session *s, struct account_table *t, uid_t uid)
{
	int err = charge_set(t, &s->charge, uid, ACCOUNT_PLACES, 1);

	if (!err)
		err = charge_set(t, &s->charge, uid, ACCOUNT_UNFINISHED, 1);
	if (!err)
		err = charge_set(t, &s->charge, uid, ACCOUNT_DESCRIPTORS, 1);
	if (!err)
		err = charge_set(t, &s->charge, uid, ACCOUNT_BYTES, sizeof(*s));
	return err;
}

struct session *session_new(struct daemon *d, int sock, const struct ucred *cred)
{
	struct session *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return NULL;
	err = charge_stranger(s, &d->accounts, cred->uid);
	if (err) {
		charge_drop(&s->charge);
		free(s);
		errno = -err;
		return NULL;
	}
	s->d = d;
	s->state = SESSION_HELLO;
	s->sock = sock;
	s->pid = cred->pid;
	s->uid = cred->uid;
	for (int i = 0; i < CLIENT_FDS_NR; i++)
		s->fds[i] = -1;
	s->accepted_ms = clock_ms();
	lock_init(&s->send_lock);
	return s;
}

int session_charge_client(struct session *s)
{
	struct account_table *t = &s->d->accounts;
	int err = charge_set(t, &s->charge, s->uid, ACCOUNT_DESCRIPTORS, 1 + CLIENT_FDS_NR);

	if (!err)
		err = charge_set(t, &s->charge, s->uid, ACCOUNT_BYTES,
				 sizeof(*s) + ORDERS_REMEMBERED * sizeof(*s->orders));
	return err;
}

void session_free(struct session *s)
{
	for (int i = 0; i < CLIENT_FDS_NR; i++)
		if (s->fds[i] >= 0)
			close(s->fds[i]);
	if (s->domain)
		domain_leave(s->domain);
	charge_drop(&s->charge);
	charge_drop(&s->records);
	/* After its charge: if the socket cannot be closed yet it needs one of its own. */
	closer_take(&s->d->closer, CLOSER_SOCKET, s->sock, s->uid);
	lock_deinit(&s->send_lock);
	free(s->orders);
	free(s);
}

bool session_stalled(const struct session *s)
{
	return s->nr_orders && clock_ms() - s->waiting_ms > STALL_MS;
}

bool session_told(const struct session *s)
{
	return s->state == SESSION_READY && (s->has_told || clock_ms() - s->accepted_ms > TOLD_MS);
}

int64_t session_profit(const struct mm_counters *c)
{
	return profit_bytes(c->merging_pages + c->zero_pages, c->metadata_bytes, c->added_vmas);
}
