/* SPDX-License-Identifier: MIT */
/*
 * bell.c - see bell.h.
 *
 * No ring is lost: the owner drains the eventfd first and takes the bits afterwards. A thread that
 * rings after the bits were taken finds none set, and writes again. A thread that finds some set
 * need not write, because whoever set the first of them does.
 */
#include "daemon/bell.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/container.h"

int bell_init(struct bell *b)
{
	*b = (struct bell){ .event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
	return b->event < 0 ? -errno : 0;
}

void bell_deinit(struct bell *b)
{
	loop_unwatch(&b->watch);
	if (b->event >= 0)
		close(b->event);
	b->event = -1;
}

void bell_ring(struct bell *b, uint32_t bits)
{
	uint64_t one = 1;

	if (atomic_fetch_or(&b->rung, bits))
		return;
	/* Fails only when the counter is full, and then the owner is awake. */
	if (write(b->event, &one, sizeof(one)) < 0)
		return;
}

static uint32_t take(struct bell *b)
{
	uint64_t count;

	/* Fails when an earlier answer took the bits of a thread that was about to write. */
	if (read(b->event, &count, sizeof(count)) < 0)
		count = 0;
	return atomic_exchange(&b->rung, 0);
}

static void ready(struct loop_watch *w, uint32_t events)
{
	struct bell *b = container_of(w, struct bell, watch);
	uint32_t bits = take(b);

	(void)events;
	if (bits)
		b->answer(b, bits);
}

int bell_hang(struct bell *b, struct loop *l, void (*answer)(struct bell *b, uint32_t bits))
{
	b->answer = answer;
	return loop_watch(l, &b->watch, b->event, EPOLLIN, ready);
}

uint32_t bell_wait(struct bell *b, uint64_t due_ms)
{
	struct pollfd p = { .fd = b->event, .events = POLLIN };
	uint32_t bits = 0;

	for (;;) {
		int timeout = clock_timeout(due_ms);

		if (atomic_load(&b->rung) || (timeout && poll(&p, 1, timeout) > 0))
			bits = take(b);
		if (bits || !timeout)
			return bits;
	}
}
