/* SPDX-License-Identifier: MIT */
/*
 * patience.h - how long to wait for clients to answer their orders.
 *
 * Clients answer within milliseconds, but for those that are stopped, and these must not keep
 * anybody. So whoever waits goes on when no order was answered for SILENT_MS, or, though some were,
 * after so long in all as he says.
 */
#ifndef KSMD_PATIENCE_H
#define KSMD_PATIENCE_H

#include <stdbool.h>
#include <stdint.h>

#define SILENT_MS 1000

/* A wait that has begun. */
struct patience {
	uint64_t fewest; /* orders seen */
	uint64_t since_ms, begun_ms;
};

static inline void patience_begin(struct patience *p, uint64_t orders, uint64_t now_ms)
{
	*p = (struct patience){ orders, now_ms, now_ms };
}

/* So many orders are left now. True: they are not worth waiting for any longer. */
static inline bool patience_lost(struct patience *p, uint64_t orders, uint64_t now_ms,
				 uint64_t most_ms)
{
	if (orders < p->fewest) {
		p->fewest = orders;
		p->since_ms = now_ms;
	}
	return now_ms - p->since_ms >= SILENT_MS || now_ms - p->begun_ms >= most_ms;
}

#endif
