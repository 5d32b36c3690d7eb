/* SPDX-License-Identifier: MIT */
/*
 * core.h - the engine's own structures, and accessors of these. It declares no function of a file.
 *
 * Locks. The engine has one mutex, engine.lock; it covers everything below unless said otherwise.
 * Workers hash, ask change tracking and read clients without it, and check what they found again
 * under it. Order: engine.lock, then whatever the ops take. RCU read sections are short, take no
 * lock inside, and cover a client's array of regions.
 *
 * References. A region counts one reference on its mm_slot; blocks, the live array and scanning
 * workers count references on a region. A holder of either can go on using it after the client
 * has gone: it finds mm->dead set, the array empty and no block.
 */
#ifndef KSM_ENGINE_CORE_H
#define KSM_ENGINE_CORE_H

#include <assert.h>
#include <urcu.h>
#include <urcu/list.h>
#include <urcu/ref.h>

#include "base/guard.h"
#include "base/slab.h"
#include "base/span.h"
#include "engine/engine.h"
#include "engine/numa_policy.h"
#include "engine/rmap.h"
#include "engine/stable.h"
#include "engine/still.h"
#include "engine/unseen.h"
#include "pool/pool.h"

#define PAGE_SHIFT KSM_PAGE_SHIFT
#define PAGE_BYTES ((uint64_t)KSM_PAGE_SIZE)
#define BLOCK_BYTES (PAGE_BYTES * BLOCK_PAGES)
#define HUGE_BYTES (PAGE_BYTES * 512) /* of a huge page, and of what one page table maps */
#define MM_MAX_ORDERS 64u /* orders under way per client; the low 6 bits of an order's id */
#define BUDGET_ALL 65536u /* of mm_slot.choice: all single pages, as far as there is room */
#define FRAME_NONE KSM_FRAME_NONE
#define NID_UNKNOWN (-1)

/* A piece of memory that a client offers. Its bounds never change. */
struct region {
	struct urcu_ref ref;
	struct mm_slot *mm; /* counted */
	struct span at;     /* bytes */
	struct rcu_head rcu;
};

#define LEAF_REGIONS 128u
/* Some of a client's live regions, 1 to LEAF_REGIONS. Never changed once published. */
struct region_leaf {
	struct rcu_head rcu;
	uint32_t nr;
	struct region *r[]; /* counted */
};

/*
 * A client's live regions: sorted, disjoint, not touching. Never changed once published. Its
 * successor shares the leaves that a change does not concern.
 */
struct region_array {
	struct rcu_head rcu;
	uint32_t nr; /* regions in all leaves */
	uint32_t nr_leaves;
	struct region_leaf *leaf[];
};

/* A place in an array: of a region, or { nr_leaves, 0 } after the last. */
struct region_pos {
	uint32_t leaf, at;
};

/* An order under way. */
struct order {
	uint32_t id;    /* 0: free */
	uint32_t block; /* NIL when the block is gone */
	uint32_t key;   /* where it was */
	uint32_t vmas;  /* mappings it may add, held back from the budget */
	uint64_t inlay; /* pages to be inlaid: budget.c */
};

/* A pageblock of the pool for 2 MiB of a client's addresses: page n has frame n (layout.c). */
struct window {
	uint32_t key;   /* address / 2 MiB << 6 | nid */
	uint32_t frame; /* first frame of the pageblock */
};

/*
 * Runs of blocks in which every page is tracked, and of blocks, close together, in which any is.
 * dense_update() makes them under the lock when tracked_seq has moved on; the worker that scans the
 * client reads them, and no other thread touches them. They are a hint and may be out of date.
 */
struct dense_map {
	struct dense_runs {
		struct dense_run {
			uint32_t first, last; /* block keys, inclusive */
		} * v;
		uint32_t nr; /* sorted, disjoint */
	} all, any;
	bool blind;   /* there was no memory for `any` */
	uint64_t seq; /* of the tracked_seq it was made for, plus 1 */
};

/* Page `pn` of a client was paired with that item of another, which may have gone since. */
struct trail {
	uint64_t pn; /* 0: none */
	uint32_t item;
};

/* How often a client forks, and what it may have for it: forks.c. */
struct forks {
	uint64_t nr;      /* told so far */
	uint32_t load;    /* forks, in 1/256; those of some time ago count half */
	uint64_t load_ms; /* at this time */
	uint64_t pages;   /* that each fork copies, */
	uint32_t own;     /* and mappings that are not merging's, since there is a limit */
	uint32_t limit;   /* mappings that merging may add; 0: as many as otherwise */
	bool told;        /* pages without mappings count as left out because of forks */
};

/* Mappings that a client is to give back because it forks: shed.c. */
struct shed {
	uint32_t at;         /* entry of the block table that is next */
	uint32_t level;      /* which runs go */
	uint64_t due_ms;     /* of the next round, unless the last has reached its goal */
	uint64_t from, goal; /* mappings before the last round, and expected after it */
	uint32_t wait_ms;
};

/*
 * A client. For each state s: nr_state[s] pages of its blocks are in it, and the sum over all
 * clients is engine.nr_state[s]. vmas_reserved is the sum of order[].vmas.
 */
struct mm_slot {
	struct urcu_ref ref;
	struct rcu_head rcu;
	struct engine *e;
	void *client;
	uint32_t id;
	uint64_t family;                 /* of processes that came from each other by forks alone */
	uint64_t serial;                 /* position in the engine's list; grows */
	struct cds_list_head list;       /* in e->mms */
	int dead;                        /* set once, under the lock, before it leaves the list */
	struct region_array *regions;    /* RCU for readers, lock for writers; never NULL */
	struct region_array *no_regions; /* empty, kept for the exit, which must not fail */
	struct block_table table;
	struct block_head blocks[BLOCK_LIST_NR];
	int pend_flip;         /* 1: PEND_NOW and PEND_NEXT have changed places */
	struct window *window; /* sorted by key */
	uint32_t nr_windows;
	struct order order[MM_MAX_ORDERS];
	uint32_t nr_orders, order_seq;

	uint32_t vmas_own, max_map_count; /* as the client told */
	uint64_t vmas_ours;     /* region-inner boundaries between pages that need two mappings */
	uint64_t vmas_reserved; /* held back for orders under way */
	int refused_level;      /* budget level when an order was refused last */
	uint32_t choice;        /* single pages with hashes below are chosen: budget_choose() */
	uint32_t choice_rounds; /* passes that looked up again what was not */
	uint64_t choice_room;   /* mappings left when what was refused was looked up last */
	uint64_t choice_ready;  /* nr_ready when they were chosen; 0: they are to be */
	bool vmas_released;     /* the shares kept for longer runs are open to single pages */
	bool inlays;            /* there is no room for two mappings each: budget.c */
	uint32_t inlay_rest;    /* passes in which there are to be none, since the client cannot */
	/* Of left[], when there were more or some merged; merged pages when retry.c asked last. */
	uint64_t fork_left, fork_merged;
	uint32_t fork_passed, fork_interval; /* passes since it asked again; until it does */
	struct forks forks;
	struct shed shed;
	enum engine_flush flush_owed; /* the last flush could not send all that it should have */

	struct trail trail; /* the last pair: follow.c */
	/* Guesses that were right and wrong: about frames, and about zeros. */
	struct follow_score {
		uint32_t won, lost;
	} follow_score[2];

	enum engine_move_failed move_failed; /* of its last site that was to move and did not */
	bool move_silent; /* it left such an order unanswered, and has answered none since */

	int reader; /* node on which most of its threads run, or NID_UNKNOWN */
	bool ahead; /* taken up in this pass by a worker of its node, before others' turn */

	struct unseen unseen;     /* to be looked at by the next pass that comes to this client */
	struct unseen unseen_now; /* by the one that is at it, until it has tracked everything */
	struct still still;       /* whether the process has run since */
	unsigned int hurry;       /* passes in which no page sits out because it is written often */

	uint8_t passes;       /* begun at this client, modulo 256 */
	uint64_t tracked_seq; /* counts pages that begin or cease to be tracked */
	struct dense_map dense;

	uint64_t allowed; /* bytes of blocks and regions that the daemon allows: allow.c */
	uint64_t nr_state[RMAP_NR];
	uint64_t nr_ready; /* pages that wait to be ordered */
	uint64_t left[KSM_LEFT_NR];
	uint64_t cow_breaks;
	uint64_t on_nid[]; /* its sites by the node that their frames count for; nr_nodes */
};

#define GLANCE_RACED 16u
/* What a worker looks at right now with the lock released: no order may start there meanwhile. */
struct glance {
	struct mm_slot *mm; /* NULL: nothing */
	struct span at;
	/* What DEL, FORGET or ADOPT touched meanwhile; of too many the last covers the rest. */
	unsigned int nr_raced;
	struct span raced[GLANCE_RACED];
};

/*
 * New frames whose bytes are still only in the worker's buffer. Their nodes are `filling`: pages
 * may be bound to them, but no order for them is sent, and they are not dropped. The worker that
 * made them writes them with the lock released.
 */
struct fill {
	uint32_t nr;
	uint32_t node[BLOCK_PAGES], frame[BLOCK_PAGES];
	uint32_t partner[BLOCK_PAGES]; /* item that was in the unstable tree or a crowd */
	uint8_t page[BLOCK_PAGES];     /* where in the buffer */
	int nid[BLOCK_PAGES];          /* node that it came to lie on, or NID_UNKNOWN */
	bool failed[BLOCK_PAGES];
};

#define CROWD_PARTIES KNOB_MIN_SHARERS_MAX
/* Equal pages that must not be merged yet: crowd.c. Each page is in the party of its family. */
struct crowd {
	uint64_t hash;
	struct ctree_links links; /* by hash */
	struct ctree_links due_links;
	uint64_t due; /* timed: when its random time is over, as engine_tick() counts */
	uint32_t nr;  /* pages of all parties; at least 1 when the lock is free */
	struct party {
		uint64_t family;
		uint32_t first; /* rmap_item */
		uint32_t nr;    /* 0: the party is free */
	} party[CROWD_PARTIES];
	uint32_t next_touched;
	uint8_t root; /* tree it belongs to */
	bool timed;   /* it waits for `due` */
	bool ripe;    /* its time is over; not timed */
	bool touched;
};

struct crowds {
	struct slab slab;
	struct ctree_roots roots; /* a tree for each nid */
	uint32_t due_root;
	uint32_t touched;        /* first crowd to be settled; NIL when the lock is free */
	uint64_t now, salt;      /* of the last tick */
	uint64_t draws;          /* random times given so far */
	uint32_t sharers, delay; /* the knobs when all crowds were looked at last */
	uint32_t sweep;          /* those from here on are still to be looked at */
	bool halted;             /* some could not be settled, because nothing was to be merged */
};

#define FOLLOW_SAMPLES 3u /* pages of a run that are read to test a guess about all of it */
/* Pages of another client that may be equal to those that a worker is about to read. */
struct pal {
	struct mm_slot *mm; /* counted; NULL: none */
	uint64_t pn;        /* from here on */
	uint8_t sample[FOLLOW_SAMPLES];
	uint64_t equal; /* bit per page of the run: both were read, and have the same bytes */
};

enum scan_phase { SCAN_TRACK, SCAN_PENDING };

/* How far the scan of one client is. */
struct scan_cursor {
	uint64_t serial; /* of the client */
	uint64_t addr;   /* where in it */
	enum scan_phase phase;
	bool begun; /* it is known whether this pass looks at it */
};

/* Belongs to the thread that runs it, except `glance`, which the lock covers. */
struct scan_worker {
	struct glance glance;
	int nid; /* NUMA node on which it runs, or NID_UNKNOWN: engine_set_worker_nid() */
	struct scan_cursor at;
	uint32_t clean;       /* clean pages not charged yet */
	uint64_t track_pages; /* how far the next call of change tracking looks, */
	uint64_t bare_pages;  /* and where no page is tracked: of this client alone */
	unsigned char *buf;   /* two blocks: pages to hash, pages to compare; NULL at rest */
	struct fill fill;     /* empty whenever the lock is not held, except while it is written */
	struct pal pal;
};

/* What steering depends on: while it is the same, frames are where they should be. */
struct steer_seen {
	uint64_t readers, merged, policy, pressure; /* no padding: compared as bytes */
};

struct migrate;
struct drain;
struct compact;
struct steer;

struct engine {
	const struct engine_ops *ops;
	void *arena;
	const struct ksm_knobs *knobs;
	int nr_nodes;
	uint8_t home[ENGINE_NODES]; /* node that pages of each count for: engine_set_home() */
	uint64_t hash_seed, zero_hash;

	struct lock lock;
	struct cds_list_head mms;
	uint64_t next_serial;
	uint64_t nr_mms;    /* not released yet; atomic */
	struct slab blocks; /* struct rmap_block */
	struct stable stable;
	struct pool pool;
	uint32_t allowed;      /* frames that may be in use, never below pool.nr_used: allow.c */
	uint64_t debt_allowed; /* pages that may be merged or ordered: allow.c */
	bool held;             /* nothing is to be merged for now; atomic, like the next */
	bool indebted;         /* a page was not merged because debt_allowed was reached */
	struct ctree_roots unstable; /* a tree for each nid */
	struct crowds crowds;
	bool one_client; /* the domain never has another: min_sharers means nothing */
	/*
	 * Who shares frames, as the knobs say; across.c takes them over. group[n]: tree that
	 * contents of node n stand in; merge_across: all stand in one. While nodes are sorted anew
	 * (`resort`, next_*), some may still stand in a tree of the groups before.
	 */
	struct policy policy;
	uint8_t distance[ENGINE_NODES][ENGINE_NODES];
	uint8_t group[ENGINE_NODES];
	bool merge_across, resort;
	uint32_t next_node, next_root, next_crowd;
	struct steer *steer;       /* the round that is under way; NULL: none */
	struct steer_seen steered; /* when the last one began */
	bool steer_again;          /* it has moved something, or tried to */
	uint64_t reader_changes;   /* times that a client's threads went to another node */
	uint64_t epoch;
	uint16_t nr_flushes;  /* wraps */
	uint64_t table_bytes; /* clients, their tables and windows, regions, arrays; atomic */

	uint64_t nr_state[RMAP_NR];
	uint64_t nr_ready;
	uint64_t nr_orders;
	uint64_t left[KSM_LEFT_NR];
	uint64_t left_for_forks; /* of left[KSM_LEFT_VMA_BUDGET], of clients that have forks.told */
	uint64_t vmas_ours;      /* sum over all clients */
	struct engine_totals total;

	uint32_t survey_next;                  /* block that the survey comes to next: survey.c */
	bool survey_due;                       /* a home changed, and no round has begun since */
	uint32_t bring_next;                   /* frame that engine_bring_back() comes to next */
	struct migrate *migrate[ENGINE_JOBS];  /* the mover's jobs; NULL: none */
	struct drain *drain[ENGINE_NODES];     /* the one that takes frames of it out of use */
	struct compact *compact[ENGINE_NODES]; /* the one that frees pageblocks of it */
	uint64_t wants_pageblock;              /* bit per node: a window could not be had */
	struct compact_defer {
		uint8_t shift, passed; /* 2^shift - 1 wishes are passed over; so many were */
	} compact_defer[ENGINE_NODES];
	struct gather_last {
		uint64_t vmas, merged; /* as gather_score() was when frames were gathered last */
	} gathered[ENGINE_NODES];
	/* Bit per node: frames are gathered at rest; somebody wants the node for something else. */
	uint64_t gathers_at_rest, node_wanted;
	uint8_t migrate_next[ENGINE_NODES]; /* node to be emptied to after that, plus 1 */
	uint32_t nr_copying;                /* frames that get their bytes, and then a node */

	/*
	 * A pass. Workers have done the clients up to next_scan, or are at them (nr_scanning), or
	 * ran out of budget and left the cursor in parked[] for the worker that comes next.
	 */
	uint64_t next_scan;
	uint64_t pass_hashed; /* pages_scanned when the pass began */
	uint32_t nr_scanning, nr_parked;
	struct scan_cursor parked[ENGINE_WORKERS];
	struct scan_worker worker[ENGINE_WORKERS];
	struct glance looker; /* of engine_look() */
};

/* Inline: every step down the unstable tree takes one. */
static inline struct rmap_block *rmap_block(const struct engine *e, uint32_t bi)
{
	return slab_get(&e->blocks, bi, sizeof(struct rmap_block));
}

static inline struct rmap_item *rmap_item(const struct engine *e, uint32_t i)
{
	return &rmap_block(e, i / BLOCK_PAGES)->item[i % BLOCK_PAGES];
}

static inline struct mm_slot *block_mm(const struct rmap_block *b)
{
	return b->region->mm;
}

/* The client is one of this engine, so the lock that the caller holds is the client's, too. */
static inline void mm_is_of(const struct mm_slot *mm, const struct engine *e) NEEDS(e->lock)
	HELD(mm->e->lock) UNCHECKED_LOCKING
{
	assert(mm->e == e);
}

/* Page number of a slot of a block, in its client's address space. */
static inline uint64_t block_pn(const struct rmap_block *b, unsigned int slot)
{
	return ((uint64_t)b->key << BLOCK_SHIFT) + slot;
}

/* Addresses of the block of that key. */
static inline struct span block_span(uint32_t key)
{
	return (struct span){ key * BLOCK_BYTES, (key + 1ull) * BLOCK_BYTES };
}

static inline uint64_t huge_down(uint64_t addr)
{
	return addr & ~(HUGE_BYTES - 1);
}

static inline uint64_t huge_up(uint64_t addr)
{
	return huge_down(addr + HUGE_BYTES - 1);
}

/* Pages of the block of that key which lie in `at`. */
static inline uint64_t block_mask(uint32_t key, struct span at)
{
	struct span block = block_span(key), part = span_clip(at, block);

	if (span_empty(part))
		return 0;
	return mask64((unsigned int)((part.start - block.start) / PAGE_BYTES),
		      (unsigned int)((part.end - block.start) / PAGE_BYTES));
}

/* Is anything to be read and merged at present? A worker that asks without the lock asks again. */
static inline bool engine_rests(const struct engine *e)
{
	return __atomic_load_n(&e->held, __ATOMIC_RELAXED) ||
	       __atomic_load_n(&e->indebted, __ATOMIC_RELAXED);
}

/*
 * May a job begin that moves frames of that node, compaction and the mover's own jobs not counted?
 * What gathers frames at rest gives way, and ends with its next step.
 */
static inline bool node_is_free(struct engine *e, int nid) NEEDS(e->lock)
{
	bool rests = e->gathers_at_rest & bit64((unsigned int)nid);

	if (rests)
		e->node_wanted |= bit64((unsigned int)nid);
	return !e->drain[nid] && !e->migrate_next[nid] &&
	       (rests || (!e->compact[nid] && !e->migrate[nid]));
}

/* Number of the tree that contents of this NUMA node stand in; unknown will do if there is one. */
static inline int tree_root(const struct engine *e, int nid)
{
	return e->merge_across ? 0 : e->group[nid];
}

static inline size_t mm_bytes(const struct engine *e)
{
	return sizeof(struct mm_slot) + (size_t)e->nr_nodes * sizeof(uint64_t);
}

static inline void count_bytes(struct engine *e, int64_t n)
{
	__atomic_fetch_add(&e->table_bytes, (uint64_t)n, __ATOMIC_RELAXED);
}

/* Frame that an ORDERED or MERGED page is bound to or stands on. */
static inline uint32_t bound_frame(const struct engine *e, const struct rmap_block *b,
				   unsigned int slot)
{
	uint32_t node = b->item[slot].s.node;

	return node == NODE_ZERO ? KSM_FRAME_ZERO : stable_node(&e->stable, node)->frame;
}

/* Node that a ready or sent order takes the page to: the one that a site moves to, or its own. */
static inline uint32_t ordered_node(const struct engine *e, const struct rmap_block *b,
				    unsigned int slot)
{
	uint32_t node = b->item[slot].s.node;

	return rmap_state(b, slot) == RMAP_MERGED ? stable_node(&e->stable, node)->to : node;
}

static inline uint32_t ordered_frame(const struct engine *e, const struct rmap_block *b,
				     unsigned int slot)
{
	uint32_t node = ordered_node(e, b, slot);

	return node == NODE_ZERO ? KSM_FRAME_ZERO : stable_node(&e->stable, node)->frame;
}

#endif
