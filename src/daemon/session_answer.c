/* SPDX-License-Identifier: MIT */
/*
 * session_answer.c - see session_answer.h.
 *
 * A client can lie about its own memory only. If it claimed merges that it did not make it would
 * inflate the counters, so now and then the page map is asked whether claimed pages still are
 * private memory that was not written since it was last scanned. (A write makes a merged page
 * private again at once, and all pages of an order may have been written by the time we look; a
 * page that was merged is not armed.) A worker asks, before it next tracks the client: whoever asks
 * waits for the client's mmap_lock, and this thread serves everybody.
 */
#include "daemon/session_answer.h"

#include <errno.h>

#include "daemon/clients.h"
#include "daemon/session_order.h"

/* Claims are checked for every order at first, then for every 16th: a look costs about 2 us, the
 * merge of a full order 45. */
#define CHECK_ALL_FIRST 8
#define CHECK_EVERY 16

/* Pages claimed merged: bit mask; or false after an unknown result. */
static bool claims(const uint8_t *result, uint64_t *mask)
{
	*mask = 0;
	for (unsigned int i = 0; i < KSM_ORDER_PAGES; i++) {
		if (result[i] >= KSM_RES_NR)
			return false;
		if (result[i] == KSM_RES_MERGED)
			*mask |= 1ull << i;
	}
	return true;
}

static bool time_to_check(struct session *s)
{
	return s->nr_done++ < CHECK_ALL_FIRST || s->nr_done % CHECK_EVERY == 0;
}

void session_answer(struct session *s, const union ksm_msg *msg)
{
	const struct ksm_msg_order_done *t = &msg->order_done;
	uint64_t mask;

	if (!claims(t->result, &mask)) {
		client_fail(s, ERR_PROTOCOL, EINVAL, "unknown result in the answer to order %u",
			    t->id);
		return;
	}
	/* The count guards against an answer to an order that this connection never got. */
	if (!s->nr_orders || engine_order_done(s->mm, t->id, t->result)) {
		client_fail(s, ERR_PROTOCOL, EPROTO, "answer to order %u, which is not under way",
			    t->id);
		return;
	}
	session_order_answered(s);
	if (mask && time_to_check(s))
		session_order_claim(s, t->id, mask);
	clients_epochs_soon(s->clients);
}

void session_answer_liars(struct clients *c)
{
	struct session *s = TAILQ_FIRST(&c->all), *next;
	uint32_t lies, checked;

	for (; s; s = next) {
		next = TAILQ_NEXT(s, link);
		if (session_order_lies(s, &lies, &checked))
			client_fail(s, ERR_LIAR, EPROTO, "%u of %u pages said to be merged are not",
				    lies, checked);
	}
}
