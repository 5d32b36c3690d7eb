/* SPDX-License-Identifier: MIT */
/*
 * loop.c - one turn after the other (see loop.h).
 *
 * epoll hands back a batch of events, and a callback may remove the watch of a later one. An event
 * of a removed watch would call into freed memory, so loop_unwatch() strikes it off the batch.
 */
#include "base/loop.h"

#include <errno.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/span.h"

#define EVENTS 128 /* of one turn; loop_unwatch() walks that many in well below 1 us */

int loop_init(struct loop *l)
{
	*l = (struct loop){ .epoll = epoll_create1(EPOLL_CLOEXEC) };
	TAILQ_INIT(&l->timers);
	return l->epoll < 0 ? -errno : 0;
}

void loop_deinit(struct loop *l)
{
	if (l->epoll >= 0)
		close(l->epoll);
	l->epoll = -1;
}

static int control(struct loop_watch *w, int op, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = w };

	if (epoll_ctl(w->loop->epoll, op, w->fd, &ev))
		return -errno;
	w->events = events;
	return 0;
}

int loop_watch(struct loop *l, struct loop_watch *w, int fd, uint32_t events,
	       void (*ready)(struct loop_watch *w, uint32_t events))
{
	int err;

	*w = (struct loop_watch){ .loop = l, .fd = fd, .ready = ready };
	err = control(w, EPOLL_CTL_ADD, events);
	if (err)
		w->loop = NULL;
	return err;
}

int loop_watch_set(struct loop_watch *w, uint32_t events)
{
	return events == w->events ? 0 : control(w, EPOLL_CTL_MOD, events);
}

void loop_unwatch(struct loop_watch *w)
{
	struct loop *l = w->loop;

	if (!l)
		return;
	epoll_ctl(l->epoll, EPOLL_CTL_DEL, w->fd, NULL);
	w->loop = NULL;
	for (int i = l->at; i < l->nr; i++)
		if (l->event[i].data.ptr == w)
			l->event[i].data.ptr = NULL;
}

void loop_timer_add(struct loop *l, struct loop_timer *t,
		    void (*fire)(struct loop_timer *t, uint64_t now_ms))
{
	t->due_ms = CLOCK_NEVER;
	t->fire = fire;
	TAILQ_INSERT_TAIL(&l->timers, t, link);
}

static uint64_t earliest(const struct loop *l)
{
	const struct loop_timer *t;
	uint64_t due = CLOCK_NEVER;

	TAILQ_FOREACH(t, &l->timers, link)
	due = u64_min(due, t->due_ms);
	return due;
}

static void fire_due(struct loop *l)
{
	uint64_t now = clock_ms();
	struct loop_timer *t;

	TAILQ_FOREACH(t, &l->timers, link)
	{
		if (t->due_ms > now)
			continue;
		t->due_ms = CLOCK_NEVER;
		t->fire(t, now);
	}
}

void loop_turn(struct loop *l)
{
	struct epoll_event event[EVENTS];

	l->event = event;
	l->nr = epoll_wait(l->epoll, event, EVENTS, clock_timeout(earliest(l)));
	for (l->at = 0; l->at < l->nr;) {
		struct loop_watch *w = event[l->at].data.ptr;
		uint32_t events = event[l->at++].events;

		if (w)
			w->ready(w, events);
	}
	l->event = NULL;
	l->at = l->nr = 0;
	fire_due(l);
}

void loop_run(struct loop *l)
{
	while (!l->stopped)
		loop_turn(l);
}
