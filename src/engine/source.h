/* SPDX-License-Identifier: MIT */
/* source.h - which stable nodes a job of the mover is about, and where their pages are to go. */
#ifndef KSM_SOURCE_H
#define KSM_SOURCE_H

#include "engine/core.h"
#include "engine/relocation.h"

enum source_kind {
	SOURCE_RANGE,  /* frames [first, end) of a zone are to be empty */
	SOURCE_NODE,   /* nothing is to lie on NUMA node `from` */
	SOURCE_CLIENT, /* the pages of a client are to lie on `to` */
	SOURCE_TWINS,  /* nodes that met others of their contents become one with these */
};

struct source {
	enum source_kind kind;
	int from, to;        /* RANGE: equal: elsewhere in the same zone. TWINS: neither is used */
	uint32_t first, end; /* RANGE: of the zone `from`, and isolated if from == to */
	/*
	 * RANGE: NULL, or the frames of the range that move, each with the new frame that was taken
	 * for it. It outlives the job, which leaves POOL_NONE where it used a frame; what is left
	 * is the caller's. No page is then moved to a frame that is there already.
	 */
	struct relocation *way;
	uint64_t serial;   /* CLIENT: the client's, which may go meanwhile */
	uint64_t nr_sites; /* CLIENT: its pages on frames at the start */
};

/*
 * The next stable node that the job is about; NIL: none for now. *at: 0 at first, and where to go
 * on. It looks at some thousands of numbers at most. The same node may come again.
 */
uint32_t source_next(struct engine *e, const struct source *s, uint32_t *at) NEEDS(e->lock);
/* Have all been looked at? */
bool source_ended(const struct engine *e, const struct source *s, uint32_t at) NEEDS(e->lock);
/* The NUMA node on which pages of a node of this source are to lie. */
int source_to(const struct source *s, const struct stable_node *n);
/* Frames on which they may: a caller of stable_pick_in() who wants all of them asks it twice. */
void source_where(const struct engine *e, const struct source *s, const struct stable_node *n,
		  struct stable_where w[2]) NEEDS(e->lock);
/*
 * Is it about a part of the pages of this node, those of the client, because others' stand there?
 */
bool source_is_split(struct engine *e, const struct source *s, uint32_t node) NEEDS(e->lock);
/* Frames that the job is about at most, for its time limit. */
uint64_t source_frames(struct engine *e, const struct source *s) NEEDS(e->lock);

#endif
