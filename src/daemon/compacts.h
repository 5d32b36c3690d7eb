/* SPDX-License-Identifier: MIT */
/*
 * compacts.h - compaction of a node's frames in all domains.
 *
 * The engines do the work (engine/compact.c), one step after the other, on the mover's thread. Each
 * domain has a run of its own, which succeeds if it frees a pageblock. What gathers frames at rest
 * takes a tenth of the time: after each step it waits nine times as long as that took, the clients'
 * answers included.
 */
#ifndef KSMD_COMPACTS_H
#define KSMD_COMPACTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/guard.h"
#include "daemon/domain.h"
#include "numa/numa_topology.h"

struct daemon;

struct compacts {
	struct daemon *d;
	struct lock lock; /* a leaf; covers all below */
	struct compacts_node {
		bool active;
		bool rests; /* nobody waits for it */
		/* Since the start: runs that freed something, and that did not. */
		uint64_t success, fail;
		uint64_t stall, wake; /* of these, begun for a window; because of the score */
		uint64_t deferred;    /* wishes that were passed over */
		struct engine_compacted sum; /* but for what follows */
		/* Of the last run of each domain, summed: mappings, merged pages. */
		uint64_t vmas[2], merged[2];
	} node[NUMA_MAX_NODES];
	/* Of what rests, the mover's alone: the next step is due then; this one began, or 0. */
	struct compacts_pace {
		uint64_t due_ms, begun_ms;
	} pace[NUMA_MAX_NODES];
};

void compacts_init(struct compacts *c, struct daemon *d);
void compacts_deinit(struct compacts *c);

/* Any thread. Begin on all domains. 0, -EALREADY (in none could it begin) or -ENOMEM. */
int compacts_begin(struct compacts *c, int nid);
void compacts_end(struct compacts *c, int nid);
void compacts_look(struct compacts *c, int nid, struct compacts_node *out);

/* Mover. Begin where an engine wants it; and, where merging rests, to gather frames. */
void compacts_want(struct compacts *c, struct domain **v, unsigned int nr);
void compacts_rest(struct compacts *c, struct domain **v, unsigned int nr);
/* Mover. One step of each; *due_ms: when the next is due, unchanged: never. */
void compacts_step(struct compacts *c, struct domain **v, unsigned int nr, uint64_t *due_ms);

#endif
