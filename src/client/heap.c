/* SPDX-License-Identifier: MIT */
/*
 * heap.c - offer what was added to the main heap.
 *
 * malloc moves the break inside the C library, where no interposer sees it. The agent finds growth
 * by asking the kernel for the break from time to time, more seldom where nothing grows. ksm-run
 * has told malloc never to shrink the heap.
 */
#include "client/heap.h"

#include <sys/mman.h>

#include "base/span.h"
#include "client/as_queue.h"
#include "client/as_ranges.h"
#include "client/sysc.h"

#define POLL_MIN_MS 100
#define POLL_MAX_MS 3200

static void want(struct as_range *r, long arg)
{
	(void)arg;
	r->flags |= AS_WANTED;
}

/* Returns whether something was added. */
static bool offer_growth(struct heap *h)
{
	bool grew = false;
	uint64_t end;

	as_agent_lock();
	/* The last page is shared with what comes next; it is offered when the break passes it. */
	end = page_down((uint64_t)sysc1(SYS_brk, 0));
	/* What is known of it already was left out for a reason that stands. */
	if (end > h->end &&
	    as_fill(h->end, end, PROT_READ | PROT_WRITE, 0,
		    as.exclude_all ? 1u << KSM_LEFT_MLOCKED : 0) == 0 &&
	    as_edit(h->end, end, want, 0) == 0) {
		as_event(KSM_MSG_ADD, h->end, end);
		h->end = end;
		grew = true;
	}
	as_unlock();
	return grew;
}

void heap_offer(struct heap *h, uint64_t end)
{
	h->end = end;
	atomic_store(&h->offered, 1);
}

void heap_shrunk(struct heap *h, uint64_t end)
{
	h->end = u64_min(h->end, end);
}

void heap_begin(struct heap *h)
{
	h->poll_ms = POLL_MIN_MS;
}

void heap_poll(struct heap *h)
{
	if (!heap_is_offered(h))
		return;
	if (offer_growth(h))
		h->poll_ms = POLL_MIN_MS;
	else if (h->poll_ms < POLL_MAX_MS)
		h->poll_ms *= 2;
}
