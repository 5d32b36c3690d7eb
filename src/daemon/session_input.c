/* SPDX-License-Identifier: MIT */
/*
 * session_input.c - see session_input.h.
 *
 * A table says which message may come in which state, and which room carries it out. Every number
 * in a message is checked against its range before it reaches the engine. Whatever is wrong ends
 * the connection with a reason; a client of the library never sees that.
 */
#include "daemon/session_input.h"

#include <errno.h>

#include "base/clock.h"
#include "daemon/clients.h"
#include "daemon/daemon.h"
#include "daemon/epochs.h"
#include "daemon/join.h"
#include "daemon/release.h"
#include "daemon/rights.h"
#include "daemon/session_answer.h"
#include "daemon/session_info.h"
#include "daemon/session_range.h"
#include "daemon/unmerge.h"

/* Messages taken from one client before others have their turn; fewer when they take long. */
#define FAIR_SHARE 64
#define FAIR_MS 5

#define IN_WELCOME (1u << SESSION_WELCOME)
#define IN_READY (1u << SESSION_READY)

/* HELLO is apart: it alone brings descriptors. */
static const struct rule {
	uint32_t states; /* bit mask */
	void (*handle)(struct session *s, const union ksm_msg *msg);
} rules[KSM_MSG_NR] = {
	[KSM_MSG_READY] = { IN_WELCOME, join_ready },
	[KSM_MSG_ADD] = { IN_READY, session_range_add },
	[KSM_MSG_DEL] = { IN_READY, session_range_del },
	[KSM_MSG_FORGET] = { IN_READY, session_range_forget },
	[KSM_MSG_ADOPT] = { IN_READY, session_range_adopt },
	[KSM_MSG_ORDER_DONE] = { IN_READY, session_answer },
	[KSM_MSG_UNMERGE_DONE] = { IN_READY, unmerge_done },
	[KSM_MSG_RELEASE_DONE] = { IN_READY, release_done },
	[KSM_MSG_EPOCH_DONE] = { IN_READY, epochs_done },
	[KSM_MSG_STAT] = { IN_READY, session_info_stat },
	[KSM_MSG_INFO] = { IN_READY, session_info },
	[KSM_MSG_FORKS] = { IN_READY, session_info_forks },
};

/* A message and the descriptors that came with it. */
struct received {
	union {
		union ksm_msg msg;
		char bytes[sizeof(union ksm_msg) + 1]; /* one more shows what is too long */
	};
	size_t len;
	struct rights rights;
};

/* Nobody asked for them. */
static void hand_over_fds(struct session *s, struct received *r)
{
	for (int i = 0; i < r->rights.nr; i++)
		closer_take(&s->d->closer, CLOSER_STRANGE, r->rights.fd[i], s->uid);
	r->rights.nr = 0;
}

/* A HELLO of another version may have another length, too. */
static bool of_other_version(const struct session *s, const struct received *r)
{
	const struct ksm_msg_hello *m = &r->msg.hello;

	return s->state == SESSION_HELLO && m->hdr.type == KSM_MSG_HELLO &&
	       r->len >= offsetof(struct ksm_msg_hello, flags) && m->version != KSM_WIRE_VERSION;
}

static void dispatch(struct session *s, struct received *r)
{
	uint32_t type = r->len >= sizeof(r->msg.hdr) ? r->msg.hdr.type : 0;

	if (type && of_other_version(s, r)) {
		join_other_version(s, r->msg.hello.version);
		return;
	}
	if (!ksm_msg_size(type)) {
		client_fail(s, ERR_PROTOCOL, EPROTO, "no such message: type %u, %zu bytes", type,
			    r->len);
		return;
	}
	if (r->len != ksm_msg_size(type) || r->msg.hdr.len != r->len) {
		client_fail(s, ERR_PROTOCOL, EMSGSIZE, "message of type %u must have %u bytes",
			    type, ksm_msg_size(type));
		return;
	}
	if (type == KSM_MSG_HELLO && s->state == SESSION_HELLO) {
		if (join_hello(s, &r->msg.hello, r->rights.fd, r->rights.nr, r->rights.cut))
			r->rights.nr = 0; /* the session's now */
		return;
	}
	if (r->rights.nr || r->rights.cut)
		client_fail(s, ERR_DESCRIPTORS, EBADF, "message of type %u brings descriptors",
			    type);
	else if (!(rules[type].states & (1u << s->state)))
		client_fail(s, ERR_PROTOCOL, EPROTO, "message of type %u must not come now", type);
	else
		rules[type].handle(s, &r->msg);
}

/* Returns 1, 0 when there is nothing more, -1 at the end of the connection. */
static int receive(struct session *s, struct received *r)
{
	ssize_t n = rights_receive(s->sock, r->bytes, sizeof(r->bytes), &r->rights);

	if (n < 0)
		return n == -EAGAIN || n == -EINTR ? 0 : -1;
	r->len = (size_t)n;
	return n > 0 || r->rights.nr ? 1 : -1;
}

void session_input(struct session *s)
{
	uint64_t begin = clock_ms();
	struct received r;

	if (closer_crowded(&s->d->closer, CLOSER_STRANGE, s->uid)) {
		client_fail(s, ERR_LIMIT, EAGAIN,
			    "descriptors that user %u passed are still being closed", s->uid);
		return;
	}
	for (int i = 0; i < FAIR_SHARE && s->state != SESSION_DEAD && !s->work.type &&
			clock_ms() - begin < FAIR_MS;
	     i++) {
		int got = receive(s, &r);

		if (got < 0)
			client_drop(s);
		if (got <= 0)
			return;
		dispatch(s, &r);
		hand_over_fds(s, &r);
	}
}
