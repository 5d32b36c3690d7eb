/* SPDX-License-Identifier: MIT */
/*
 * node_watch.h - when to ask where clients' pages and frames lie (engine_survey()).
 *
 * The kernel counts the pages that it migrates. That is a hint, and no proof: where it rose a round
 * begins, so what moved is followed at once. But some moves are not counted, so there is a slow
 * round every minute besides. Where pages count for another node than before, because one came or
 * went, there is one at once in the domains that this concerns. A round takes a bounded share of a
 * core, however much there is.
 *
 * The mover's thread alone calls these.
 */
#ifndef KSMD_NODE_WATCH_H
#define KSMD_NODE_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/domain.h"
#include "numa/numa_topology.h"

struct node_watch {
	uint64_t due_ms;            /* of the next step */
	uint64_t hint;              /* what the kernel had counted when the last round began */
	uint64_t ended_ms, cost_ns; /* of the last round; cost: CPU time of this one, or the last */
	bool under_way;
	uint64_t bring_ms; /* when frames are brought back next */
	int bring_to;      /* node to which they are being */
	bool bringing;
	_Atomic uint64_t brought; /* frames that were, since the start; any thread reads it */
};

/*
 * On a machine with one node nothing is due. `busy`: the mover moves frames by now; so the hint
 * rises, and a round would ask about frames that are to move, with the thread that moves them. It
 * waits, but not longer than a slow one does. Returns when the next step is, in ms; or never.
 */
uint64_t node_watch_step(struct node_watch *w, struct numa_topology *t, struct domain **v,
			 unsigned int nr, bool busy);

#endif
