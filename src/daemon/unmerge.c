/* SPDX-License-Identifier: MIT */
/*
 * unmerge.c - see unmerge.h, and unmerge_job.h for the job's way through the threads.
 *
 * A client that has stalled (an operator or a debugger stopped it) is not waited for: it gets its
 * UNMERGE when it goes on, and nothing new is merged meanwhile. One that takes too long ends the
 * job with an error, and may be asked again.
 */
#include "daemon/unmerge.h"

#include <errno.h>

#include "base/clock.h"
#include "base/container.h"
#include "daemon/clients.h"
#include "daemon/daemon.h"
#include "daemon/session_send.h"

#define TIMEOUT_MS 30000
#define POLL_MS 500 /* how soon a client that has stalled meanwhile is noticed */

/* error: a positive errno of client pid, or 0. */
static void finish(struct clients *c, int error, int pid)
{
	struct unmerge_job *job = &c->d->unmerge;
	struct session *s;

	TAILQ_FOREACH(s, &c->all, link)
	s->unmerge_awaited = false;
	job->error = error;
	job->pid = pid;
	if (unmerge_job_move(job, UNMERGE_DONE))
		bell_ring(&c->d->main_bell, MAIN_UNMERGED);
}

/* The first client that is still awaited; the wait for those that have stalled ends here. */
static struct session *first_awaited(struct clients *c)
{
	struct session *s;

	TAILQ_FOREACH(s, &c->all, link)
	{
		if (s->unmerge_awaited && session_stalled(s))
			s->unmerge_awaited = false;
		if (s->unmerge_awaited)
			return s;
	}
	return NULL;
}

static void run(struct loop_timer *t, uint64_t now)
{
	struct clients *c = container_of(t, struct clients, unmerge_timer);
	struct session *s;

	if (c->d->unmerge.state != UNMERGE_WAIT)
		return;
	s = first_awaited(c);
	if (s && now < c->unmerge_deadline_ms)
		loop_timer_set(t, now + POLL_MS);
	else
		finish(c, s ? ETIMEDOUT : 0, s ? (int)s->pid : 0);
}

void unmerge_init(struct clients *c)
{
	loop_timer_add(&c->loop, &c->unmerge_timer, run);
}

void unmerge_begin(struct clients *c)
{
	struct unmerge_job *job = &c->d->unmerge;
	struct session *s;

	if (job->state != UNMERGE_SEND || !unmerge_job_move(job, UNMERGE_WAIT))
		return;
	job->id++;
	c->unmerge_deadline_ms = clock_ms() + TIMEOUT_MS;
	loop_timer_set(&c->unmerge_timer, 0);
	TAILQ_FOREACH(s, &c->all, link)
	{
		if (s->state != SESSION_READY)
			continue;
		s->unmerge_awaited = true;
		/* One that still owes an answer is not asked twice. */
		session_want(s, s->unmerging ? 0 : WANT_UNMERGE);
	}
}

void unmerge_done(struct session *s, const union ksm_msg *msg)
{
	const struct ksm_msg_unmerge *u = &msg->unmerge;

	if (!s->unmerging) {
		client_fail(s, ERR_PROTOCOL, EPROTO, "nobody asked for unmerging");
		return;
	}
	if (u->error < 0) {
		client_fail(s, ERR_PROTOCOL, EINVAL, "not an error number: %d", u->error);
		return;
	}
	if (u->error == 0 && engine_region_forget(s->mm, 0, KSM_ADDR_END)) {
		client_fail(s, ERR_RESOURCES, ENOMEM, "cannot forget what was merged");
		return;
	}
	s->unmerging = false;
	if (s->unmerge_awaited) {
		s->unmerge_awaited = false;
		loop_timer_set(&s->clients->unmerge_timer, 0); /* it may have been the last */
		if (u->error)
			finish(s->clients, u->error, (int)s->pid);
	}
	clients_epochs_soon(s->clients);
}
