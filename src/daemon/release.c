/* SPDX-License-Identifier: MIT */
/*
 * release.c - see release.h.
 *
 * A process that is to be checkpointed must hold nothing of ours: no frame, no userfaultfd, no
 * connection. The client alone can see to that, so it is asked, and the end of its session says
 * that it is done. The main thread asks by a mark in the session and reads the outcome there;
 * nobody waits here. A client that is stopped finds the message when it goes on.
 */
#include "daemon/release.h"

#include <errno.h>

#include "daemon/session_send.h"

void release_poll(struct clients *c)
{
	struct session *s;

	TAILQ_FOREACH(s, &c->all, link)
	{
		int asked = RELEASE_ASKED;

		if (s->state == SESSION_READY &&
		    atomic_compare_exchange_strong(&s->release, &asked, RELEASE_SENT))
			session_want(s, WANT_RELEASE);
	}
}

void release_done(struct session *s, const union ksm_msg *msg)
{
	int error = msg->unmerge.error;

	if (s->release != RELEASE_SENT) {
		client_fail(s, ERR_PROTOCOL, EPROTO, "nobody asked for a release");
		return;
	}
	if (error < 0 || error > 4095) {
		client_fail(s, ERR_PROTOCOL, EINVAL, "not an error number: %d", error);
		return;
	}
	/* A client that has let go of everything hangs up: the end of its session says so. */
	if (error)
		s->release = -error;
}
