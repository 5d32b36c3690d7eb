/* SPDX-License-Identifier: MIT */
/*
 * numa_policy.h - on a machine with several NUMA nodes: who shares a frame, and where it lies.
 *
 * One frame for all saves most, and most of its readers may be far away. One for each node is near
 * to all, and takes as many times the memory. What is right depends on the program, so there are
 * several policies. Each is a pure function of what the engine knows: it changes nothing, takes no
 * lock, and calls nothing. across.c has trees follow policy_groups(), steer.c carries out what
 * policy_wish() says.
 *
 *   global      Every two equal pages share a frame. Optimises memory. Costs: a frame lies where
 *               its first pages lay, and all other nodes read it from there. Worst case: what all
 *               read lies on one node, whose memory serves the machine. The kernel's
 *               merge_across_nodes 1.
 *   node        Only pages of one node share a frame. Optimises access. Costs: a frame for each
 *               node that has the contents. Worst case: contents that each node has once are not
 *               merged at all. The kernel's merge_across_nodes 0.
 *   distance    Nodes are put together in groups in which no two are more than `within` apart, and
 *               pages of one group share a frame. Between the two above; at 10 it is `node`, at 254
 *               `global`. Costs: a frame for each group. Worst case: groups are made one after the
 *               other from the lowest number on, so two nodes can be near and in different groups.
 *   majority    As global, and a frame lives where most of its readers run, and follows them.
 *               Optimises access at the full saving. Costs: a move for each frame whose readers
 *               have gone elsewhere (a copy of 4 KiB). Worst case: readers that are spread evenly,
 *               where it is as global; readers that wander faster than they are sampled, whose
 *               frames wander behind them. A new node has to have a quarter more readers than the
 *               old one, so two that are alike do not pull at a frame.
 *   replicate   As majority where nobody reads a frame at its node; besides, a node with two
 *               readers or more of a frame with many sharers gets a copy. Frames never change, so
 *               copies need no coherence. Optimises access, as far as a budget of memory allows,
 *               which is spent where it spares most distance. Readers on a node that gets none go
 *               to the nearest one. Costs: a frame for each copy.
 *               Worst case: copies of what is hardly ever read, as nobody counts reads, only
 *               readers; the budget bounds that. Copies go when memory is short.
 *   interleave  As global, and frames with many sharers are spread evenly over the nodes.
 *               Optimises the load of memory controllers. Costs: a move for each such frame.
 *               Worst case: contents that one node alone reads are spread as well.
 */
#ifndef KSM_NUMA_POLICY_H
#define KSM_NUMA_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#define POLICY_NODES 64
#define POLICY_HERE 10 /* distance of a node to itself, as ACPI has it */
#define POLICY_GAINS 32

enum policy_kind {
	POLICY_GLOBAL,
	POLICY_NODE,
	POLICY_DISTANCE,
	POLICY_MAJORITY,
	POLICY_REPLICATE,
	POLICY_INTERLEAVE,
	POLICY_NR
};
#define POLICY_NAMES                                                                               \
	{                                                                                          \
		"global", "node", "distance", "majority", "replicate", "interleave"                \
	}

struct policy {
	enum policy_kind kind;
	int nr_nodes;    /* 1..POLICY_NODES */
	uint32_t within; /* distance: most that pages of a frame are apart */
	uint32_t hot; /* replicate, interleave: sharers from which on a frame counts; at least 2 */
	/* replicate: copies that spare less than 2^least are not made. POLICY_GAINS: none is. */
	unsigned int least;
	uint8_t (*distance)[POLICY_NODES]; /* POLICY_HERE on the diagonal, elsewhere more */
};

/*
 * Which nodes have a tree in common: group[n] is the lowest number of the nodes of n's group.
 * group has room for nr_nodes.
 */
void policy_groups(const struct policy *p, uint8_t *group);

/* A frame, and what stands on it. */
struct policy_frame {
	uint64_t hash;    /* of its contents: evenly distributed */
	int nid;          /* node that it lies on */
	uint32_t sharers; /* pages that stand on it */
	/* Those by the node on which their programs run; of some that is not known. */
	uint32_t reader[POLICY_NODES];
	/*
	 * For each other node: sharers of a frame there with the same contents and in the same
	 * tree, the largest; 0: there is none. `room`: bit per node, that one takes all of this.
	 */
	uint32_t there[POLICY_NODES];
	uint64_t room;
};

/* Is there another that is larger, or as large and on a node of a lower number? */
bool policy_is_copy(const struct policy *p, const struct policy_frame *f);

/*
 * What a copy spares: readers times the distance by which it is nearer to them than the nearest
 * other frame. Of one that is there, or of the best one that could be made (*to: where).
 */
uint64_t policy_gain(const struct policy *p, const struct policy_frame *f, int *to);
/* Its power of two, below POLICY_GAINS: two gains of the same count as equal. */
unsigned int policy_gain_class(uint64_t gain);
/*
 * Least class of gains of which `budget` copies can be had, when there would be nr[c] of class c.
 * Copies of a lower class are not worth their memory. POLICY_GAINS when the budget is 0.
 */
unsigned int policy_least(const uint64_t nr[POLICY_GAINS], uint64_t budget);

/* How much memory there is for copies. */
struct policy_room {
	uint64_t copies; /* frames that are there only as copies */
	uint64_t budget; /* most of these */
	bool pressure;   /* memory is short */
};

enum policy_act {
	POLICY_KEEP,
	POLICY_MOVE, /* the frame is to lie on node `to` */
	POLICY_COPY, /* pages read from node `of` are to stand on a frame on node `to` */
	POLICY_JOIN, /* all its pages are to stand on the frame that is there already */
};
struct policy_wish {
	enum policy_act act;
	int to;
	int of; /* COPY: not `to` if another node's copy is there that is nearer to these */
};
struct policy_wish policy_wish(const struct policy *p, const struct policy_frame *f,
			       const struct policy_room *room);

/* Has the policy something to say about where frames lie? If not, wishes are about old copies. */
static inline bool policy_steers(enum policy_kind kind)
{
	return kind == POLICY_MAJORITY || kind == POLICY_REPLICATE || kind == POLICY_INTERLEAVE;
}

#endif
