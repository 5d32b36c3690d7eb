// SPDX-License-Identifier: MIT
/*
 * heap.c - offer what was added to the main heap.
 *
 * malloc moves the break inside the C library, where no interposer sees it. Growth is found by asking for
 * the break from time to time; shrinking is what ksm-run has told malloc not to do.
 */
#include <sys/mman.h>

#include "client/heap.h"
#include "client/as.h"
#include "client/sysc.h"

static void want(struct as_range *r, long arg)
{
	(void)arg;
	r->flags |= AS_WANTED;
}

uint64_t heap_poll(uint64_t *known_end)
{
	uint64_t added = 0, end;

	as_agent_lock();
	/* The last page is shared with what comes next; it is offered when the break passes it. */
	end = (uint64_t)sysc1(SYS_brk, 0) & ~(uint64_t)(KSM_PAGE_SIZE - 1);
	/* What is known of it already was left alone for a reason that stands. */
	if (end > *known_end &&
	    as_fill(*known_end, end, PROT_READ | PROT_WRITE, 0,
		    as.exclude_all ? 1u << KSM_LEFT_MLOCKED : 0) == 0 &&
	    as_edit(*known_end, end, want, 0) == 0) {
		as_event(KSM_MSG_ADD, *known_end, end);
		added = end - *known_end;
		*known_end = end;
	}
	as_unlock();
	return added;
}
