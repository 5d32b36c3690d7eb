/* SPDX-License-Identifier: MIT */
/*
 * rmap.h - what is known of each page of each client. Types and accessors alone.
 *
 * A tracked page has one rmap_item, 20 bytes, in a block of 64 (an aligned 64-page piece of address
 * space, which is also what a merge order is for). A 32-bit index, block * 64 + slot, names an
 * item. A block exists while one of its pages is tracked. Its index is valid while the lock is
 * held: later the block may have gone, or lie in the memory of another NUMA node (record.c).
 * A block is 1432 bytes, 22.4 per page; with the table that finds it a fully tracked page costs
 * less than 23 (tests/unit/test_memory.c prints the figure).
 *
 * The states exclude each other. A table in page.c lists the moves between them, and page_set() is
 * the only function that makes one: it keeps trees, lists, counters and the count of mappings in
 * step.
 *
 *   ABSENT    not tracked
 *   VOLATILE  tracked, in no tree
 *   UNSTABLE  in the unstable tree; item.t and the hash are valid
 *   WAITING   equal to others, and must not be merged yet: in crowd item.s.node (crowd.c), on the
 *             list of its family by item.s.next/prev; the hash is valid
 *   ORDERED   bound to item.s.node (or NODE_ZERO); its order waits (ready) or is sent (inflight)
 *   MERGED    a site of stable node item.s.node, on its list by item.s.next/prev; while it is to
 *             move to that node's `to`, its order waits or is sent, as of an ORDERED page
 *   ZEROED    given back; reads as zeros
 *   COWED     written after merge: private memory in a mapping of frame item.c.frame
 *   FOREIGN   a file page that this engine did not place (an earlier daemon's)
 *
 * COWED and FOREIGN pages wait like VOLATILE ones until they are calm, then a worker hashes them
 * and they go the way of the others; the client sees for itself how to replace such a page. A
 * WAITING page is hashed again when its crowd has waited long enough, because a frame is filled
 * only with bytes just read.
 *
 * The engine lock covers everything here.
 */
#ifndef KSM_RMAP_H
#define KSM_RMAP_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/ctree.h"
#include "engine/hash.h"

#define BLOCK_SHIFT 6
#define BLOCK_PAGES 64u
#define NIL CTREE_NIL              /* no item, block, node or index */
#define NODE_ZERO 0x7ffffffeu      /* in place of a stable node: the zero page */
#define RMAP_MAX_BLOCKS (1u << 25) /* so that item indices stay below NODE_ZERO */

enum rmap_state {
	RMAP_ABSENT,
	RMAP_VOLATILE,
	RMAP_UNSTABLE,
	RMAP_WAITING,
	RMAP_ORDERED,
	RMAP_MERGED,
	RMAP_ZEROED,
	RMAP_COWED,
	RMAP_FOREIGN,
	RMAP_NR
};
/* Why a VOLATILE page is left out, how an ORDERED one was found; the next move clears it. */
#define RMAP_STATE_MASK 0x0f
#define RMAP_LEFT_PINNED 0x10
#define RMAP_LEFT_VMA 0x20
#define RMAP_LEFT_ARENA 0x80
#define RMAP_LEFT_FORK 0x40 /* of a VOLATILE page */
#define RMAP_LEFT (RMAP_LEFT_PINNED | RMAP_LEFT_VMA | RMAP_LEFT_ARENA | RMAP_LEFT_FORK)
/* Of an ORDERED one: it was found by a guess; nobody read it, its hash is what it should be. */
#define RMAP_FOLLOWED RMAP_LEFT_FORK

struct rmap_item {
	uint32_t hash[2]; /* and the age in their lowest 8 bits */
	union {
		struct ctree_links t; /* UNSTABLE */
		struct {
			uint32_t next, prev, node;
		} s; /* MERGED, WAITING; ORDERED: node only */
		struct {
			uint32_t frame;
		} c; /* COWED */
	};
};

enum { LINK_PEND, LINK_READY, LINK_NR };

struct region;

struct rmap_block {
	struct region *region; /* counted; whose block it is, even when the region is withdrawn */
	uint64_t tracked;      /* state is not ABSENT */
	uint64_t pending;      /* VOLATILE, COWED, FOREIGN or WAITING, to be hashed once clean for
			    * a pass; UNSTABLE, to be hashed again, and MERGED, to be looked at:
			    * it may have been written all the same */
	uint64_t fresh;        /* subset of pending: was dirty in this pass, so not in this one */
	uint64_t ready;        /* ORDERED and not sent */
	uint64_t inflight;     /* ORDERED and sent; ready | inflight are exactly the ORDERED ones */
	uint64_t inlaid;       /* VOLATILE, UNSTABLE, WAITING or ORDERED: private memory in the
			    * mapping of the frames to their left; never the first page */
	uint32_t key;          /* page number >> BLOCK_SHIFT */
	uint32_t order;        /* the order under way, in mm->order[]; or NIL */
	struct {
		uint32_t prev, next;
	} link[LINK_NR];     /* lists of the mm, see on[] */
	uint8_t on[LINK_NR]; /* 0, or enum block_list + 1 */
	uint8_t state[BLOCK_PAGES];
	uint16_t flush;  /* READY_OLD: number of the flush that found it with new orders */
	uint8_t huge;    /* 0, or a huge page maps it: hashed again after 2^(huge - 1) passes, */
	uint8_t huge_at; /* since the pass with this number (mm_slot.passes) */
	struct rmap_item item[BLOCK_PAGES];
};

/* Lists of blocks that each mm keeps. */
enum block_list {
	PEND_NOW,  /* pending, to be looked at in this pass */
	PEND_NEXT, /* pending, in the next */
	READY_NEW, /* orders wait; one was added since the last flush */
	READY_OLD, /* orders wait for more pages of the block; longest first */
	BLOCK_LIST_NR
};
struct block_head {
	uint32_t first, last;
};

/* Block by key: open addressing, linear probing, at most 3/4 full. */
struct block_entry {
	uint32_t key, block;
};
struct block_table {
	struct block_entry *entry;
	uint32_t cap, nr; /* cap is 0 or a power of two */
};

#define ITEM_AGE HASH_SPARE

static inline uint64_t item_hash(const struct rmap_item *it)
{
	return (uint64_t)it->hash[1] << 32 | (it->hash[0] & ~ITEM_AGE);
}

static inline void item_set_hash(struct rmap_item *it, uint64_t hash)
{
	it->hash[0] = (uint32_t)hash | (it->hash[0] & ITEM_AGE);
	it->hash[1] = (uint32_t)(hash >> 32);
}

/* Low 4 bits: times the page was found dirty; high: passes still to skip. */
static inline uint8_t item_age(const struct rmap_item *it)
{
	return it->hash[0] & ITEM_AGE;
}

static inline void item_set_age(struct rmap_item *it, uint8_t age)
{
	it->hash[0] = (it->hash[0] & ~ITEM_AGE) | age;
}

static inline uint32_t item_index(uint32_t bi, unsigned int slot)
{
	return bi * BLOCK_PAGES + slot;
}

static inline enum rmap_state rmap_state(const struct rmap_block *b, unsigned int slot)
{
	return b->state[slot] & RMAP_STATE_MASK;
}

/* Is a page of this state private memory that stands on no frame, as far as the engine knows? */
static inline bool rmap_is_private(enum rmap_state s)
{
	return s == RMAP_VOLATILE || s == RMAP_UNSTABLE || s == RMAP_WAITING || s == RMAP_ORDERED;
}

static inline uint64_t bit64(unsigned int n)
{
	return 1ull << n;
}

/* Bits [from, to) of a word, 0 <= from < to <= 64. */
static inline uint64_t mask64(unsigned int from, unsigned int to)
{
	return (to == 64 ? ~0ull : bit64(to) - 1) & ~(bit64(from) - 1);
}

/* Number of the lowest bit that is set; m is not 0. */
static inline unsigned int low_bit(uint64_t m)
{
	return (unsigned int)__builtin_ctzll(m);
}

/* Number of the highest bit that is set; m is not 0. */
static inline unsigned int high_bit(uint64_t m)
{
	return 63u - (unsigned int)__builtin_clzll(m);
}

/* Why a page is left out: any of RMAP_LEFT, or 0. */
static inline uint8_t rmap_left(const struct rmap_block *b, unsigned int slot)
{
	return rmap_state(b, slot) == RMAP_VOLATILE ? b->state[slot] & RMAP_LEFT : 0;
}

/* Does the page wait to be hashed, and not just to be looked at? */
static inline bool waits_for_hash(const struct rmap_block *b, unsigned int slot)
{
	return (b->pending & bit64(slot)) && rmap_state(b, slot) != RMAP_MERGED;
}

#endif
