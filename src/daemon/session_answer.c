/* SPDX-License-Identifier: MIT */
/*
 * session_answer.c - see session_answer.h.
 *
 * A client can lie about its own memory only. If it claimed merges that it did not make it would
 * inflate the counters, so now and then the page map is asked whether claimed pages still are
 * private memory that was not written since it was last scanned. (A write makes a merged page
 * private again at once, and all pages of an order may have been written by the time we look; a
 * page that was merged is not armed.)
 */
#include "daemon/session_answer.h"

#include <errno.h>

#include "daemon/clients.h"
#include "daemon/session_order.h"
#include "daemon/track.h"

/* Claims are checked for every order at first, then for every 16th: a look costs about 2 us, the
 * merge of a full order 45. */
#define CHECK_ALL_FIRST 8
#define CHECK_EVERY 16
#define CLAIMS_ENOUGH 64   /* none is judged by fewer */
#define CLAIMS_WINDOW 1024 /* then older ones count half */

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

/* Look at what is claimed; a liar is dropped. */
static void check_claims(struct session *s, uint32_t id, uint64_t mask)
{
	uint64_t addr;

	if (!mask || !time_to_check(s) || !session_order_addr(s, id, &addr))
		return;
	s->claims_checked += (uint32_t)__builtin_popcountll(mask);
	s->claims_false += (uint32_t)__builtin_popcountll(
		track_private_pages(s->fds[CLIENT_PAGEMAP], addr, mask));
	if (s->claims_checked >= CLAIMS_ENOUGH && s->claims_false > s->claims_checked / 2) {
		client_fail(s, ERR_LIAR, EPROTO, "%u of %u pages said to be merged are not",
			    s->claims_false, s->claims_checked);
		return;
	}
	if (s->claims_checked >= CLAIMS_WINDOW) {
		s->claims_checked /= 2;
		s->claims_false /= 2;
	}
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
	check_claims(s, t->id, mask);
	clients_epochs_soon(s->clients);
}
