/* SPDX-License-Identifier: MIT */
/*
 * as_queue.c - the queue of changes.
 *
 * Programs map and unmap from one end to the other, so a change that continues the last one, or
 * lies in it, becomes a part of it. A queue that is full drops the change and says so.
 */
#include "client/as_queue.h"

#include "base/span.h"

void as_event(uint32_t type, uint64_t start, uint64_t end)
{
	struct as_event *last = as.nr_events ? &as.event[as.nr_events - 1] : NULL;

	end = u64_min(end, KSM_ADDR_END); /* programs may give any length */
	if (last && last->type == type && last->end == start) {
		last->end = end;
	} else if (last && last->type == type && last->start <= start && last->end >= end) {
		return;
	} else if (as.nr_events == AS_EVENTS) {
		as.overflow = true;
	} else {
		as.event[as.nr_events++] = (struct as_event){ type, start, end };
	}
}
