/* SPDX-License-Identifier: MIT */
/* job.h - a job of the mover, for the files that carry it out: migrate.c and target.c. */
#ifndef KSM_JOB_H
#define KSM_JOB_H

#include "engine/core.h"
#include "engine/source.h"

/*
 * Nodes under way at a time, for each job: so many where the kernel moves their frames, because a
 * call costs it some hundred microseconds whatever it moves. Where clients are asked, and until it
 * is known who moves them, fewer: each new frame needs memory beside the old one.
 */
#define WINDOW ENGINE_MOVE_MAX
#define WINDOW_ORDERED 512u

/* A node that is isolated. */
struct move {
	uint32_t node;
	uint32_t left;     /* sites, when it was looked at last */
	uint64_t since_ms; /* of its last progress */
	uint64_t retry_ms, backoff_ms;
	uint32_t frame;
	uint32_t copy;  /* new frame that is being filled; POOL_NONE: none */
	int nid;        /* where `copy` or, if `place`, the frame itself has come to lie */
	uint32_t to;    /* node that its sites are to be ordered to now, or NIL */
	bool collides;  /* such a node is there already */
	bool met;       /* it has been counted as a collision */
	bool copied;    /* `to` has a copy of the frame, which was made for it */
	bool placed;    /* sites have been ordered to one */
	bool unsent;    /* some orders have to wait */
	bool no_memory; /* there was no frame for it when it was looked at last */
	bool split;     /* the client's sites alone move */
	bool place;     /* the kernel is asked to move its frame now */
	bool asked;     /* it was */
	enum engine_move_failed why; /* why it is given up if the kernel does not, or 0 */
	uint32_t client;             /* who kept it then */
};

struct migrate {
	struct source of;
	uint32_t next;     /* numbers of the source from here on are still to be visited */
	uint32_t last;     /* the new frame that was made last */
	uint64_t limit_ms; /* 0: not known yet */
	uint64_t frames;   /* at the start */
	bool full;         /* no more nodes are taken up for now */
	bool cancelled;
	bool no_right; /* the kernel moves nothing for us */
	bool moves;    /* it has moved frames */
	uint32_t nr;
	struct move move[WINDOW];
	/* Frames that the kernel is asked to move, and where they lie then. */
	uint32_t frame[WINDOW];
	int nid[WINDOW];
	struct engine_migrated done;
};

static inline struct stable_node *node_of(struct engine *e, const struct move *m) NEEDS(e->lock)
{
	return stable_node(&e->stable, m->node);
}

/* Does the client of this site move it in this job? */
static inline bool is_ours(const struct migrate *j, const struct move *m, const struct mm_slot *mm)
{
	return !m->split || mm->serial == j->of.serial;
}

/* Sites that are still to be moved. */
static inline uint32_t sites_left(struct engine *e, const struct migrate *j, const struct move *m)
	NEEDS(e->lock)
{
	const struct stable_node *n = node_of(e, m);
	uint32_t nr = 0;

	if (!m->split)
		return n->nr_items;
	for (uint32_t item = n->first; item != NIL; item = rmap_item(e, item)->s.next)
		nr += is_ours(j, m, block_mm(rmap_block(e, item / BLOCK_PAGES)));
	return nr;
}

#endif
