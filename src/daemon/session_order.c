/* SPDX-License-Identifier: MIT */
/* session_order.c - see session_order.h. */
#include "daemon/session_order.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "daemon/daemon.h"
#include "daemon/session_send.h"
#include "daemon/track.h"

#define CLAIMS_ENOUGH 64u   /* none is judged by fewer */
#define CLAIMS_WINDOW 1024u /* then older ones count half */

static bool may_order(struct session *s) NEEDS(s->send_lock);
static bool may_order(struct session *s)
{
	return s->state == SESSION_READY && !s->unmerging &&
	       knob_get(&s->d->knobs, KNOB_RUN) != KSM_RUN_UNMERGE && !session_stalled(s);
}

int session_send_order(void *client, struct ksm_msg_order *order)
{
	struct session *s = client;
	int err;

	order->hdr = (struct ksm_msg_hdr){ KSM_MSG_ORDER, sizeof(*order) };
	lock_take(&s->send_lock);
	if (!may_order(s)) {
		lock_give(&s->send_lock);
		return -EAGAIN;
	}
	order->seq = s->seq;
	/* Counted before it can be answered, which the client thread may see at once. */
	if (s->nr_orders++ == 0)
		s->waiting_ms = clock_ms();
	s->orders[order->id % ORDERS_REMEMBERED] = (struct order_sent){ order->id, order->addr };
	err = session_send_locked(s, &order->hdr, NULL, 0);
	if (err)
		s->nr_orders--;
	lock_give(&s->send_lock);
	return err == -EWOULDBLOCK || err == -ENOBUFS || err == -ENOMEM ? -EAGAIN : err;
}

int session_give_back(void *client, uint64_t addr, uint64_t mask)
{
	struct session *s = client;
	struct ksm_msg_give_back msg = { { KSM_MSG_GIVE_BACK, sizeof(msg) }, addr, mask };
	int err = -EAGAIN;

	lock_take(&s->send_lock);
	if (may_order(s))
		err = session_send_locked(s, &msg.hdr, NULL, 0);
	lock_give(&s->send_lock);
	return err;
}

/* ---- claims ---- */

void session_order_claim(struct session *s, uint32_t id, uint64_t mask)
{
	const struct order_sent *o = &s->orders[id % ORDERS_REMEMBERED];
	struct claims *c = &s->claims;

	lock_take(&s->send_lock);
	if (o->addr && o->id == id && c->nr < CLAIMS_KEPT)
		c->v[c->nr++] = (struct claim){ o->addr, mask };
	lock_give(&s->send_lock);
}

static bool lying(const struct claims *c)
{
	return c->checked >= CLAIMS_ENOUGH && c->lies > c->checked / 2;
}

static void look(struct session *s, const struct claim *what) NEEDS_NOT(s->send_lock);
static void look(struct session *s, const struct claim *what)
{
	uint64_t lies = track_private_pages(s->fds[CLIENT_PAGEMAP], what->addr, what->mask);
	struct claims *c = &s->claims;
	bool liar;

	lock_take(&s->send_lock);
	c->checked += (uint32_t)__builtin_popcountll(what->mask);
	c->lies += (uint32_t)__builtin_popcountll(lies);
	liar = lying(c);
	if (!liar && c->checked >= CLAIMS_WINDOW) {
		c->checked /= 2;
		c->lies /= 2;
	}
	lock_give(&s->send_lock);
	if (liar)
		bell_ring(&s->d->client_bell, CLIENTS_LIAR);
}

void session_order_check(struct session *s)
{
	struct claim v[CLAIMS_KEPT];
	uint32_t nr;

	lock_take(&s->send_lock);
	nr = s->claims.nr;
	memcpy(v, s->claims.v, nr * sizeof(v[0]));
	s->claims.nr = 0;
	lock_give(&s->send_lock);
	for (uint32_t i = 0; i < nr; i++)
		look(s, &v[i]);
}

bool session_order_lies(struct session *s, uint32_t *lies, uint32_t *checked)
{
	bool liar;

	lock_take(&s->send_lock);
	liar = lying(&s->claims);
	*lies = s->claims.lies;
	*checked = s->claims.checked;
	lock_give(&s->send_lock);
	return liar;
}

void session_order_answered(struct session *s)
{
	s->nr_orders--;
	s->waiting_ms = clock_ms();
}
