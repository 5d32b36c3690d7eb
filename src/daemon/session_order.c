/* SPDX-License-Identifier: MIT */
/* session_order.c - see session_order.h. */
#include "daemon/session_order.h"

#include <errno.h>

#include "base/clock.h"
#include "daemon/daemon.h"
#include "daemon/session_send.h"

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
	order->reserved = 0;
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

bool session_order_addr(struct session *s, uint32_t id, uint64_t *addr)
{
	struct order_sent *o = &s->orders[id % ORDERS_REMEMBERED];
	bool found;

	lock_take(&s->send_lock);
	found = o->addr && o->id == id;
	*addr = o->addr;
	lock_give(&s->send_lock);
	return found;
}

void session_order_answered(struct session *s)
{
	s->nr_orders--;
	s->waiting_ms = clock_ms();
}
