/* SPDX-License-Identifier: MIT */
/*
 * unmerge.c - see unmerge.h, and unmerge_job.h for the job's way through the threads.
 *
 * No client can keep the others from being unmerged. All are asked at once, and one that refuses,
 * or does not answer because somebody stopped it, is only noted: the job ends with an error that
 * names it. `run` is 2 all the while and afterwards, so nothing new is merged. The client's UNMERGE
 * waits in its socket, and it unmerges when it goes on; it gets no order before it has answered. A
 * client that refused is asked again by the next store of 2.
 *
 * Nothing is shared any more when the job ends without an error: a client that came meanwhile with
 * frames, as a forked child does, is waited for like the others.
 *
 * A store of another value ends the wait early, because merging may go on without the answers.
 */
#include "daemon/unmerge.h"

#include <errno.h>

#include "base/clock.h"
#include "base/container.h"
#include "base/span.h"
#include "daemon/clients.h"
#include "daemon/daemon.h"
#include "daemon/session_send.h"

/* The operator is answered within 10 s, with time to spare for the scan thread's part. A client
 * gives back 1 GiB in a second or two. */
#define TIMEOUT_MS 8000
/* The same when another store to `run` waits: clients that run need milliseconds. */
#define HURRY_MS 1000
#define POLL_MS 500 /* how soon a client that has stalled meanwhile is noticed */

static void finish(struct clients *c)
{
	struct unmerge_job *job = &c->d->unmerge;
	struct session *s;

	TAILQ_FOREACH(s, &c->all, link)
	{
		if (!s->unmerge_awaited)
			continue;
		s->unmerge_awaited = false;
		unmerge_pids_add(&job->silent, (int)s->pid);
	}
	if (!job->error && job->silent.nr)
		job->error = ETIMEDOUT;
	if (unmerge_job_move(job, UNMERGE_DONE))
		bell_ring(&c->d->main_bell, MAIN_UNMERGED);
}

/* Is it worth waiting? Not for clients that have answered nothing for long. */
static bool any_awaited(struct clients *c)
{
	struct session *s;

	TAILQ_FOREACH(s, &c->all, link)
	{
		if (s->unmerge_awaited && !session_stalled(s))
			return true;
	}
	return false;
}

/* Wait for whoever has frames although everybody has answered. */
static void await_newcomers(struct clients *c)
{
	struct engine_counters sum = { 0 };
	struct mm_counters mm;
	struct session *s;

	domain_table_counters(&c->d->domains, &sum);
	if (!sum.pages_shared)
		return;
	TAILQ_FOREACH(s, &c->all, link)
	{
		if (s->state != SESSION_READY || s->unmerge_refused)
			continue;
		mm_counters(s->mm, &mm);
		if (!mm.merging_pages)
			continue;
		s->unmerge_awaited = true;
		session_want(s, s->unmerging ? 0 : WANT_UNMERGE);
	}
}

static void run(struct loop_timer *t, uint64_t now)
{
	struct clients *c = container_of(t, struct clients, unmerge_timer);
	struct unmerge_job *job = &c->d->unmerge;
	uint64_t end = c->unmerge_begun_ms + (job->hurry ? HURRY_MS : TIMEOUT_MS);

	if (job->state != UNMERGE_WAIT)
		return;
	if (!any_awaited(c))
		await_newcomers(c);
	if (now < end && any_awaited(c))
		loop_timer_set(t, u64_min(now + POLL_MS, end));
	else
		finish(c);
}

void unmerge_init(struct clients *c)
{
	loop_timer_add(&c->loop, &c->unmerge_timer, run);
}

static void ask_all(struct clients *c)
{
	struct session *s;

	TAILQ_FOREACH(s, &c->all, link)
	{
		if (s->state != SESSION_READY)
			continue;
		s->unmerge_awaited = true;
		s->unmerge_refused = false;
		/* One that still owes an answer is not asked twice. */
		session_want(s, s->unmerging ? 0 : WANT_UNMERGE);
	}
}

void unmerge_poll(struct clients *c)
{
	struct unmerge_job *job = &c->d->unmerge;

	if (job->state == UNMERGE_SEND && unmerge_job_move(job, UNMERGE_WAIT)) {
		job->id++;
		job->error = 0;
		job->refused.nr = job->silent.nr = 0;
		c->unmerge_begun_ms = clock_ms();
		ask_all(c);
	}
	loop_timer_set(&c->unmerge_timer, 0);
}

static void note_refusal(struct unmerge_job *job, int error, int pid)
{
	if (!job->error)
		job->error = error;
	unmerge_pids_add(&job->refused, pid);
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
	s->unmerge_refused = u->error;
	if (s->unmerge_awaited) {
		s->unmerge_awaited = false;
		loop_timer_set(&s->clients->unmerge_timer, 0); /* it may have been the last */
		if (u->error)
			note_refusal(&s->d->unmerge, u->error, (int)s->pid);
	}
	clients_epochs_soon(s->clients);
}
