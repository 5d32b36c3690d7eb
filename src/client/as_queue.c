/* SPDX-License-Identifier: MIT */
/* as_queue.c - neighbouring changes become one. */
#include "client/as_queue.h"

void as_event(uint32_t type, uint64_t start, uint64_t end)
{
	struct as_event *last = as.nr_events ? &as.event[as.nr_events - 1] : NULL;

	if (end > KSM_ADDR_END) /* programs may give any length */
		end = KSM_ADDR_END;
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
