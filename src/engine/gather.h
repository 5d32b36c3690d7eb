/* SPDX-License-Identifier: MIT */
/* gather.h - which frames are to stand side by side, because pages of a client do. */
#ifndef KSM_GATHER_H
#define KSM_GATHER_H

#include "engine/relocation.h"

enum gather {
	GATHER_END,   /* all clients have been looked at */
	GATHER_MORE,  /* nothing here; call again with the lock released meanwhile */
	GATHER_FOUND, /* *way says what to move */
};

/* How far walks over all clients are. All zeros: at the start. */
struct gather_cursor {
	uint64_t serial; /* of the client */
	uint64_t addr;   /* where in it */
	uint32_t tries;  /* times that something was found in the stretch there */
	uint32_t walks;  /* that are over */
	bool found;      /* something, in this walk */
	bool empty;      /* the stretches before it */
	int64_t vmas;    /* mappings at the start, and saved by what was found so far */
	int64_t saved;
};

/* What a walk has seen; added to. */
struct gather_seen {
	uint64_t stretches; /* of which pages of a client do not share mappings */
	uint64_t skipped;   /* of these, because it would not have paid */
};

/*
 * Look on from the cursor for a stretch of 2 MiB of a client's addresses whose frames of node `nid`
 * had better be elsewhere. With GATHER_FOUND *way has frames, all of which can be moved, and the
 * numbers they should have, which were free; nothing is taken yet. It has a millisecond's work.
 */
enum gather gather_next(struct engine *e, int nid, struct gather_cursor *at,
			struct gather_seen *seen, struct relocation *way) NEEDS(e->lock);

/* Mappings that merging has added in all clients, and the pages that are merged. */
struct gather_score {
	uint64_t vmas, merged;
};
struct gather_score gather_score(struct engine *e) NEEDS(e->lock);

/*
 * May the frame be moved within its zone now: has it a stable node with its bytes, which are to lie
 * on the zone's own NUMA node?
 */
bool gather_is_movable(const struct engine *e, uint32_t frame) NEEDS(e->lock);

#endif
