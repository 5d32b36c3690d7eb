/* SPDX-License-Identifier: MIT */
/*
 * stable.h - the stable trees: one node for each frame that holds a known content.
 *
 * A node's frame never changes its bytes while the node exists, so the tree never goes stale.
 * Frames of equal content (max_page_sharing makes them, or adoption) form a circular list of
 * dups, and one of them, the head, stands in the tree for all. The head is the frame that is being
 * filled; when it is full, the fullest dup with room takes its place.
 *
 * LIVE     in a tree, or in the dup list of a node that is. nr_items sites stand on it, nr_ordered
 *          pages are bound to it. At least one of the two is not 0 when the lock is free, except
 *          while a worker fills it.
 *          A node that migrate.c has isolated may have neither, and takes no page.
 * RETIRED  no site is left, but a process that the engine cannot see may map the frame: the node
 *          waits in a list, oldest first, for the epochs up to its own to end.
 *
 * A node's number is valid while the lock is held, and longer while the node is isolated or filled,
 * or has orders: otherwise it may be copied to the memory of another NUMA node (record.c).
 *
 * It knows hashes and frames, not clients: the sites hang on `first`, which belongs to page.c.
 * The engine lock covers everything here, and the caller of each function holds it.
 */
#ifndef KSM_STABLE_H
#define KSM_STABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/ctree.h"
#include "base/slab.h"

#define STABLE_NIDS 64 /* ENGINE_NODES */

enum { STABLE_LIVE = 1, STABLE_RETIRED };
#define STABLE_MEET_TRIES 3 /* a client that answers at all answers one of so many orders */
/*
 * Has the frame its bytes? While it has not, no order for it is sent, and the node is not dropped.
 * NEVER_FILLED: it will not get them, because the budget refused its pages before a worker wrote
 * them (fill.c). Such a node goes with its last page, and its frame has no memory to give back.
 */
enum stable_fill { STABLE_FILLED, STABLE_FILLING, STABLE_FILL_FAILED, STABLE_NEVER_FILLED };

struct stable_node {
	uint64_t hash;
	/* LIVE and head: in the tree. RETIRED: child[0], child[1] are prev, next. */
	struct ctree_links links;
	uint32_t frame;
	union {
		uint64_t epoch;      /* RETIRED: the one it was retired in */
		struct {             /* LIVE */
			uint32_t to; /* node that its sites are ordered to; CTREE_NIL: none */
			uint32_t nr_moving; /* sites so ordered; `to` is a node exactly if not 0 */
		};
	};
	uint32_t first; /* first rmap_item of the sites' list */
	uint32_t nr_items, nr_ordered;
	uint32_t dup_prev, dup_next; /* itself when there is no other of this content */
	uint8_t state;
	uint8_t told;      /* a client has heard of the frame, so it may be mapped */
	uint8_t in_tree;   /* head of its content */
	uint8_t root;      /* tree it belongs to */
	uint8_t nid;       /* NUMA node that it counts for: its frame lies there, or is to */
	bool away;         /* it could not be made there, and lies elsewhere for now */
	bool copy;         /* there is a larger one on another node: numa_policy.h */
	uint8_t filling;   /* enum stable_fill */
	bool touched;      /* on the list of nodes to be settled */
	bool movable;      /* LIVE: a mover may isolate it (movable.h) */
	bool isolated : 1; /* a mover has it: no page joins it, and it is not dropped */
	bool exact : 1;    /* the frame of `to` is a copy of this one's, and was made as such */
	uint8_t meets;     /* its content stands twice on its NUMA node: tries left to merge both */
	uint32_t next_touched;
};

struct stable {
	struct slab nodes;
	struct ctree_roots roots; /* a tree for each nid */
	uint32_t retired_first, retired_last;
	uint32_t touched; /* first node to be settled; NIL when the lock is free */
	uint64_t nr_live, nr_retired;
	uint64_t nr_shared; /* nodes with at least one site */
	uint64_t nr_chains; /* contents with two or more live frames */
	uint64_t nr_dups;   /* live frames of those */
	uint64_t nr_isolated;
	uint64_t nr_away; /* live nodes that are */
	uint64_t nr_copies;
	uint32_t zone_frames; /* frames of each NUMA node's zone; 0: not known */
	/* By NUMA node; sums over all are those above. */
	struct stable_place {
		uint64_t shared, sites, copies; /* of live nodes that count for it */
		uint64_t own, elsewhere;        /* live frames of its zone, by where they lie */
	} place[STABLE_NIDS];
	uint64_t nr_meets;
	uint64_t nr_on[STABLE_NIDS]; /* live nodes that count for each NUMA node */
};

/* A node lies in the place `nid` of `memory`, which may be NULL. 0 or -ENOMEM. */
int stable_init(struct stable *s, int nr_nodes, const struct slab_memory *memory);
void stable_deinit(struct stable *s); /* nodes still there are forgotten */

static inline struct stable_node *stable_node(const struct stable *s, uint32_t n)
{
	return slab_get(&s->nodes, n, sizeof(struct stable_node));
}

/* Bring what look-ups of these hashes, each in its tree, will touch into the cache. nr <= 64. */
void stable_warm(struct stable *s, const int *root, const uint64_t *hash, unsigned int nr);
/* Head of this content in the tree, or CTREE_NIL. */
uint32_t stable_find(struct stable *s, int root, uint64_t hash);
/* A node of this content with fewer than `limit` sites and orders, or CTREE_NIL. */
uint32_t stable_pick(struct stable *s, int root, uint64_t hash, uint32_t limit);
/* Which frames; NUMA node -1: any. One that could not be made on its node is on none. */
struct stable_where {
	uint32_t first, end;
	int nid;
};
/*
 * The same among nodes whose frames are there; the tree stays as it is. *room: how many more pages
 * all of those take, if room is not NULL.
 */
uint32_t stable_pick_in(struct stable *s, int root, uint64_t hash, uint32_t limit,
			const struct stable_where *w, uint64_t *room);
/* The same among those that count for NUMA node `nid`; looks at STABLE_LOOK of them at most. */
#define STABLE_LOOK 64u
uint32_t stable_pick_on(struct stable *s, int root, uint64_t hash, uint32_t limit, int nid);
/* Does another of its content and NUMA node take no page for now? Looks at STABLE_LOOK of them. */
bool stable_has_busy_dup(const struct stable *s, uint32_t n);
/* Can the node take one more page, if nodes take up to `limit`? */
static inline bool stable_takes(const struct stable_node *n, uint32_t limit)
{
	return !n->isolated && n->nr_items + n->nr_ordered < limit;
}
/* New LIVE node, dup if the content is known. CTREE_NIL for want of memory. */
uint32_t stable_new(struct stable *s, int root, int nid, uint64_t hash, uint32_t frame);
/*
 * The frame of a LIVE node lies on NUMA node `nid`, so the node goes to the tree `root` of that,
 * where it is a dup if its content is there; then it meets. Its sites and orders stay with it.
 */
void stable_set_nid(struct stable *s, uint32_t n, int nid, int root);
/*
 * The object `to` becomes what the LIVE node n is, in the tree and among its dups. The caller sets
 * right what else names n: its sites, the word of its frame; and frees that object.
 */
void stable_replace(struct stable *s, uint32_t n, uint32_t to);
/* A LIVE node is a copy now, or no longer. */
void stable_set_copy(struct stable *s, uint32_t n, bool copy);
/* Its content may stand in the same tree, on the same NUMA node: tries to merge both, or 0. */
void stable_set_meets(struct stable *s, uint32_t n, uint8_t tries);
/* The frame of a LIVE node could not be made on its NUMA node. */
void stable_set_away(struct stable *s, uint32_t n);
/* Take a node without sites and orders out of its tree, and free it. */
void stable_free(struct stable *s, uint32_t n);
/* The same, but keep it in the list of retired ones. */
void stable_retire(struct stable *s, uint32_t n, uint64_t epoch);
/* RETIRED to LIVE again; its content may stand on another frame by now, and then it meets. */
void stable_revive(struct stable *s, uint32_t n, int root);
/* Oldest retired node if its epoch is <= upto, taken off and freed; *frame is its frame. */
bool stable_reap(struct stable *s, uint64_t upto, uint32_t *frame);
/* Retired nodes that counted for this NUMA node; looks at all retired ones. */
uint64_t stable_nr_retired_on(struct stable *s, int nid);
/* Count sites up or down; keeps nr_shared. */
void stable_add_site(struct stable *s, uint32_t n);
void stable_del_site(struct stable *s, uint32_t n);
/*
 * Isolate a LIVE node for whoever empties it. False: it is isolated already, or is being filled.
 * stable_putback() ends it, and has settle.c look at the node.
 */
bool stable_isolate(struct stable *s, uint32_t n);
void stable_putback(struct stable *s, uint32_t n);
/* A site of n is ordered to the node `to`, or no longer is. All of n's go to the same. */
void stable_add_move(struct stable *s, uint32_t n, uint32_t to);
void stable_del_move(struct stable *s, uint32_t n);
/* A site or an order has gone: settle.c looks at the node before the lock is let go. */
void stable_touch(struct stable *s, uint32_t n);
/* A node that was touched, taken off the list; CTREE_NIL: none. */
uint32_t stable_next_touched(struct stable *s);
/* Recount all. 0 or -1 with a reason in *why. */
int stable_check(struct stable *s, const char **why);

#endif
