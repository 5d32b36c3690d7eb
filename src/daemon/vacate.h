/* SPDX-License-Identifier: MIT */
/*
 * vacate.h - NUMA nodes that hold no frames, because the operator wants them empty (node/N/drain).
 *
 * Pages of such a node count as pages of another one, its *home*, in all domains, so no new frame
 * comes to lie on it. What lies there is migrated by the mover in rounds, since a page may be on
 * its way to a frame just when the mover comes by, until nothing is left. Then the node stays
 * empty: what comes to lie there nevertheless, in a new domain or because the kernel moved it, is
 * moved away again, until the node is given back.
 *
 * A node that has no memory now, or is offline, is treated as an empty one: nothing is to come to
 * lie on it. When it has some it is used like any other.
 *
 * It ends: rounds come ever less often, and when its frames have become no fewer for VACATE_MS, or
 * for 1 ms for each frame at the start if that is more, and in any case after LAST_TIMES as long,
 * the node is in use as before, and what kept it is named. What was moved stays where it is, whole:
 * each page is on a frame of its contents. A destination that is full is left out of the next
 * rounds.
 */
#ifndef KSMD_VACATE_H
#define KSMD_VACATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/guard.h"
#include "daemon/domain.h"
#include "numa/numa_topology.h"

enum vacate_state {
	VACATE_IN_USE,
	VACATE_GOING, /* frames are being moved away */
	VACATE_EMPTY, /* there are none, and shall be none */
};

struct vacate {
	struct lock lock; /* a leaf; covers all below */
	struct vacate_node {
		enum vacate_state state;
		bool known;             /* it was not in use once */
		bool absent;            /* it has no memory, or is offline: as not in use */
		uint64_t asked_ms;      /* when that was found out */
		bool asked;             /* `err` says how the last try ended */
		int home;               /* node that its pages count for while it is not in use */
		int err;                /* 0 or -errno */
		uint64_t full;          /* bit per node: it had no room in an earlier round */
		uint64_t limit_ms;      /* when they have become no fewer; 0: not known yet */
		uint64_t last_ms;       /* in any case */
		uint64_t patience_ms;   /* from `least` on */
		uint64_t least;         /* frames there were when enough had gone last */
		uint64_t next_ms;       /* when the next round begins, */
		uint64_t pause_ms;      /* and how long after that the one behind it */
		uint64_t used, retired; /* frames of all domains there, when last counted */
		/*
		 * A frame that the round could not move, one for which there was no memory before
		 * others; culprit.why 0: there was none.
		 */
		struct engine_culprit culprit;
		uint32_t domain;
		int pid; /* of culprit.client, 0 when it had gone */
	} node[NUMA_MAX_NODES];
};

void vacate_init(struct vacate *r);
void vacate_deinit(struct vacate *r);

/*
 * Main thread. Node `nid` is to be empty. 0, -EALREADY (it is being emptied, or is empty), -ENODEV
 * (it has no memory), or -ENOMEM (there is no other node that the daemon may use).
 */
int vacate_begin(struct vacate *r, struct numa_topology *t, int nid);
/* Main thread. It is in use again; what is under way ends with -ECANCELED. True: it was not. */
bool vacate_end(struct vacate *r, int nid);
/* Any thread. The nearest other node that is in use, and that the daemon may use; or -1. */
int vacate_nearest(struct vacate *r, struct numa_topology *t, int nid);
/* Any thread. What has become of it. */
void vacate_look(struct vacate *r, int nid, struct vacate_node *out);
/* Any thread. Is the node in use? */
bool vacate_is_in_use(struct vacate *r, int nid);

/*
 * Mover. Whether, and to which node, a round is to begin for `nid` now; -1: none. `busy`: one is
 * under way, or somebody else moves the node's frames. *due_ms: when to ask again, unchanged:
 * whenever the mover looks.
 */
int vacate_step(struct vacate *r, struct numa_topology *t, int nid, bool busy, struct domain **v,
		unsigned int nr, uint64_t *due_ms);
/* Mover. A frame of the node could not be moved. */
void vacate_blame(struct vacate *r, int nid, const struct domain *d,
		  const struct engine_culprit *who, int pid);

#endif
