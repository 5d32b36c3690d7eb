/* SPDX-License-Identifier: MIT */
/*
 * epochs.c - see epochs.h. The lock of a sentinel says which processes still live in an epoch
 * (grace.h); this file decides when a new one begins and when the old ones may be looked at.
 */
#include "daemon/epochs.h"

#include <errno.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/container.h"
#include "daemon/clients.h"
#include "daemon/daemon.h"
#include "daemon/session_send.h"

/* An answer or a dropped client wakes us sooner; this is for clients that could not be told. */
#define POLL_MS 200

/* Ask every client of the domain that has not been asked to move on. */
static void announce(struct domain *d)
{
	struct session *s;

	TAILQ_FOREACH(s, &d->members, member)
	{
		if (s->state == SESSION_READY && s->epoch < domain_epoch(d))
			session_want(s, WANT_EPOCH);
	}
}

static bool all_told(const struct domain *d)
{
	const struct session *s;

	TAILQ_FOREACH(s, &d->members, member)
	{
		if (s->state == SESSION_READY && s->epoch < domain_epoch(d))
			return false;
	}
	return true;
}

/*
 * A client could not be told when no descriptor was left for its sentinel, or when another had
 * locked the file against us. It would hold up this epoch, and with it all later ones, for ever.
 */
static void announce_again(struct domain *d)
{
	int fd;

	if (all_told(d))
		return;
	fd = domain_open_sentinel(d); /* begins another epoch if the file is locked */
	if (fd >= 0)
		close(fd);
	announce(d);
}

/*
 * A client unmaps its old sentinel when it is told of an epoch. What it said before (that pages
 * moved and stand on frames that look retired here) may still lie in its socket; its answer comes
 * behind that.
 */
static bool all_moved_on(const struct domain *d)
{
	const struct session *s;

	TAILQ_FOREACH(s, &d->members, member)
	{
		if (s->state == SESSION_READY && s->epoch_done < domain_epoch(d))
			return false;
	}
	return true;
}

/* Returns when to poll again. */
static uint64_t poll_domain(struct domain *d, uint64_t now)
{
	if (all_moved_on(d))
		domain_epochs_free(d, now);
	if (!grace_idle(&d->grace))
		announce_again(d);
	if (!grace_idle(&d->grace))
		return d->grace.next_poll_ms > now ? d->grace.next_poll_ms : now + POLL_MS;
	if (!engine_nr_retired(d->engine))
		return CLOCK_NEVER;
	if (!grace_may_advance(&d->grace, now))
		return d->grace.next_advance_ms;
	/* No descriptor for a sentinel: the frames stay in the engine's older epoch, and are freed
	 * with the next one that is begun. */
	if (domain_epoch_advance(d))
		return now + POLL_MS;
	announce(d);
	return d->grace.next_poll_ms;
}

static void run(struct loop_timer *t, uint64_t now)
{
	struct clients *c = container_of(t, struct clients, epochs_timer);
	unsigned int nr;
	struct domain **v = domain_table_snapshot(&c->d->domains, &nr);

	for (unsigned int i = 0; i < nr; i++)
		loop_timer_hasten(t, poll_domain(v[i], now));
	domain_snapshot_free(v, nr);
	domain_table_reap(&c->d->domains); /* the last frames may just have been freed */
}

void epochs_init(struct clients *c)
{
	loop_timer_add(&c->loop, &c->epochs_timer, run);
}

/* The sentinel's lock says who lives; this says that nothing older is under way: all_moved_on(). */
void epochs_done(struct session *s, const union ksm_msg *msg)
{
	if (msg->epoch.epoch > s->epoch) {
		client_fail(s, ERR_PROTOCOL, EPROTO, "epoch %llu is not yet",
			    (unsigned long long)msg->epoch.epoch);
		return;
	}
	if (msg->epoch.epoch == s->epoch)
		s->epoch_done = s->epoch;
	clients_epochs_soon(s->clients);
}
