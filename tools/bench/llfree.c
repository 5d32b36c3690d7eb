/* SPDX-License-Identifier: MIT */
/*
 * llfree.c - see llfree.h.
 *
 * Frames are bits, 512 to a child (2 MiB), which counts those that are free. 32 children are a
 * tree, which counts, too. A core reserves a tree: it takes that one's count for its own, so it
 * shares no cache line with others as long as the count lasts, and searches from where it found
 * the last frame. When nothing is left it reserves another: one that is in use in part, else a free
 * one, else any, so that as few as can be are broken into. A core whose last frames all went back
 * to one tree reserves that. There are no locks: each step is one atomic operation on one word.
 *
 * One core is measured, so there is one reservation. The atomic operations are there all the same,
 * because they are most of the cost.
 */
#include "llfree.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

enum { CHILD = 512, WORDS = CHILD / 64, CHILDREN = 32, TREE = CHILD * CHILDREN };
enum { SAME = 4 };      /* so many frames go back to one tree before it is reserved */
enum { LITTLE = 1024 }; /* free frames: fewer, and the tree is as good as full */
#define RESERVED 0x80000000u

struct llfree {
	uint32_t nr_trees;
	/* The core's reservation. */
	uint32_t tree, free, at; /* at: the frame that was found last */
	/* Where the last frames went back to. */
	uint32_t given_to, given;
	uint64_t *taken;      /* bit per frame */
	uint16_t *child_free; /* of each child */
	uint32_t *tree_free;  /* of each tree, without those of its reservation; and RESERVED */
};

struct llfree *llfree_new(uint32_t nr)
{
	struct llfree *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	a->nr_trees = nr / TREE;
	a->taken = calloc(nr / 64, sizeof(*a->taken));
	a->child_free = calloc(nr / CHILD, sizeof(*a->child_free));
	a->tree_free = calloc(a->nr_trees, sizeof(*a->tree_free));
	if (!a->taken || !a->child_free || !a->tree_free) {
		llfree_del(a);
		return NULL;
	}
	for (uint32_t i = 0; i < nr / CHILD; i++)
		a->child_free[i] = CHILD;
	for (uint32_t i = 0; i < a->nr_trees; i++)
		a->tree_free[i] = TREE;
	a->tree_free[0] = RESERVED;
	a->free = TREE;
	return a;
}

void llfree_del(struct llfree *a)
{
	if (!a)
		return;
	free(a->taken);
	free(a->child_free);
	free(a->tree_free);
	free(a);
}

/* --- trees --- */

/* Have the tree if it has `least` to `most` free frames, and nobody has it. */
static bool reserve(struct llfree *a, uint32_t tree, uint32_t least, uint32_t most)
{
	uint32_t v = __atomic_load_n(&a->tree_free[tree], __ATOMIC_RELAXED);

	do {
		if (v & RESERVED || v < least || v > most)
			return false;
	} while (!__atomic_compare_exchange_n(&a->tree_free[tree], &v, RESERVED, false,
					      __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
	/* The one before is anybody's again, with what is left. */
	__atomic_fetch_add(&a->tree_free[a->tree], a->free - RESERVED, __ATOMIC_ACQ_REL);
	a->tree = tree;
	a->free = v;
	a->at = tree * TREE;
	return true;
}

static bool reserve_any(struct llfree *a)
{
	static const uint32_t wanted[][2] = {
		{ LITTLE, TREE - LITTLE - 1 },
		{ TREE - LITTLE, TREE },
		{ 1, TREE },
	};

	for (unsigned int i = 0; i < 3; i++)
		for (uint32_t n = 1; n < a->nr_trees; n++)
			if (reserve(a, (a->tree + n) % a->nr_trees, wanted[i][0], wanted[i][1]))
				return true;
	return false;
}

/* What came back to the reserved tree while another was. */
static bool take_over(struct llfree *a)
{
	a->free = __atomic_exchange_n(&a->tree_free[a->tree], RESERVED, __ATOMIC_ACQ_REL) &
		  ~RESERVED;
	return a->free > 0;
}

/* --- frames --- */

static bool take_count(uint16_t *count)
{
	uint16_t v = __atomic_load_n(count, __ATOMIC_RELAXED);

	do {
		if (!v)
			return false;
	} while (!__atomic_compare_exchange_n(count, &v, (uint16_t)(v - 1), false, __ATOMIC_ACQ_REL,
					      __ATOMIC_RELAXED));
	return true;
}

/* A free frame of the child, of which there is one for us; the search begins at a word. */
static uint32_t take_bit(struct llfree *a, uint32_t child, uint32_t from)
{
	for (uint32_t n = from;; n++) {
		uint32_t w = child * WORDS + n % WORDS, bit;
		uint64_t v = __atomic_load_n(&a->taken[w], __ATOMIC_RELAXED);

		while (~v) {
			bit = u64_first(~v);
			if (__atomic_compare_exchange_n(&a->taken[w], &v, v | 1ull << bit, false,
							__ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
				return w * 64 + bit;
		}
	}
}

uint32_t llfree_take(struct llfree *a)
{
	uint32_t child;

	if (!a->free && !take_over(a) && !reserve_any(a))
		return LLFREE_NONE;
	a->free--;
	child = a->at / CHILD;
	if (take_count(&a->child_free[child])) {
		a->at = take_bit(a, child, a->at / 64 % WORDS);
		return a->at;
	}
	do
		child = a->tree * CHILDREN + (child + 1) % CHILDREN;
	while (!take_count(&a->child_free[child]));
	a->at = take_bit(a, child, 0);
	return a->at;
}

void llfree_give(struct llfree *a, uint32_t frame)
{
	uint32_t tree = frame / TREE;

	__atomic_fetch_and(&a->taken[frame / 64], ~(1ull << frame % 64), __ATOMIC_ACQ_REL);
	__atomic_fetch_add(&a->child_free[frame / CHILD], 1, __ATOMIC_ACQ_REL);
	if (tree == a->tree)
		a->free++;
	else
		__atomic_fetch_add(&a->tree_free[tree], 1, __ATOMIC_ACQ_REL);
	a->given = tree == a->given_to ? a->given + 1 : 1;
	a->given_to = tree;
	if (tree != a->tree && a->given >= SAME)
		reserve(a, tree, LITTLE, TREE);
}
