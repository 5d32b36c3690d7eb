/* SPDX-License-Identifier: MIT */
/*
 * drains.h - ranges of frames that are taken out of use, in all domains; or claimed, in one.
 *
 * The engines do the work (engine/drain.c), one step after the other, on the mover's thread. A
 * range goes out of use in all domains or in none: where one fails, the others are put back. What
 * became of it stays to be read. A domain that comes later begins with all frames in use.
 *
 * A claim is about the frames of one domain. One range of a node is under way at a time.
 */
#ifndef KSMD_DRAINS_H
#define KSMD_DRAINS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/guard.h"
#include "daemon/domain.h"
#include "numa/numa_topology.h"

struct daemon;

struct drains {
	struct daemon *d;
	struct lock lock; /* a leaf; covers all below */
	struct drains_node {
		bool active;
		bool begun;          /* in all domains: so nothing of it was out of use before */
		uint32_t first, end; /* the range that is under way, or was last */
		/* How it ended, or has failed so far: 0 or -errno, and what stood in the way. */
		int err;
		uint32_t domain;
		struct engine_drained what;
		int pid; /* of what.culprit.client, 0 when it had gone */
	} node[NUMA_MAX_NODES], claim[NUMA_MAX_NODES];
};

void drains_init(struct drains *r, struct daemon *d);
void drains_deinit(struct drains *r);

/*
 * Main thread. Begin to take [first, end) of node `nid` out of use; if it is all of the node, what
 * stands there goes to node `other`, -1: there is none. 0, -EINVAL (not whole
 * pageblocks of the node), -EALREADY, -EADDRINUSE (part of it is), -ENOMEM (also: it is all of the
 * only node).
 */
int drains_begin(struct drains *r, int nid, uint32_t first, uint32_t end, int other);
/* Main thread. Have it put back. */
void drains_end(struct drains *r, int nid);
/* Main thread. The reverse of what was taken out. 0 or -EINVAL. */
int drains_online(struct drains *r, int nid, uint32_t first, uint32_t end);
void drains_look(struct drains *r, int nid, struct drains_node *out);
/*
 * Main thread. Begin a claim: engine_claim(). 0, -EINVAL, -EALREADY (something is under way on the
 * node), -EADDRINUSE (a frame cannot move, is out of use or isolated: drains_look_claim()) or
 * -ENOMEM.
 */
int drains_claim(struct drains *r, struct domain *d, int nid, const struct engine_claim *c);
/* Main thread. Have it end, if it is one of this domain. */
void drains_claim_end(struct drains *r, struct domain *d, int nid);
/* The claim of that node that is under way, or was last; of any domain. */
void drains_look_claim(struct drains *r, int nid, struct drains_node *out);
/* What became of it: "none", `done`, "under way", or "EBUSY domain 3 frame 17 client 4711 ...". */
void drains_text(const struct drains_node *n, const char *done, char *out, size_t size);

/* Mover. One step of each; *due_ms: when the next is due, unchanged: never. */
void drains_step(struct drains *r, struct domain **v, unsigned int nr, uint64_t *due_ms);

#endif
