/* SPDX-License-Identifier: MIT */
/*
 * ctree.h - a red-black tree whose links are 32-bit indices.
 *
 * The trees of libbsd and liburcu link nodes by pointers, 32 bytes a node with the colour. The
 * unstable tree holds one node per calm page, and all that the engine keeps of a page fits into 20
 * bytes (struct rmap_item), of which 8 are the hash. Three 32-bit indices are 12; the colour sits
 * in the spare top bit of the parent. The same code serves the stable tree.
 *
 * This header is a template, and a file may include it several times; without CTREE_NAME it gives
 * only the types. Define before including it:
 *	CTREE_NAME		prefix of the functions
 *	CTREE_CTX		type handed through to the accessors (a pointer)
 *	CTREE_LINKS(ctx, i)	struct ctree_links * of node i
 *	CTREE_KEY(ctx, i)	uint64_t key of node i; keys of one tree are unique
 * A root is a plain uint32_t, CTREE_NIL when empty. The caller does all locking. No function
 * allocates or fails.
 *
 *	NAME_find(ctx, root, key)	node, or CTREE_NIL
 *	NAME_warm(ctx, &roots, tree[], key[], nr)	go down nr of these trees in step;
 *					nr <= CTREE_WARM
 *	NAME_insert(ctx, &root, i)	CTREE_NIL when inserted; the node of equal key otherwise
 *	NAME_erase(ctx, &root, i)	i must be in the tree
 *	NAME_replace(ctx, &root, i, j)	j (same key, in no tree) takes the place of i
 *	NAME_root_of(ctx, i)		topmost node of the tree that holds i
 *	NAME_check(ctx, root, &nr)	verify; 0 and the number of nodes, or -1
 */
#ifndef KSM_CTREE_H
#define KSM_CTREE_H

#include <stdint.h>

#include "base/slab.h"

#define CTREE_NIL 0x7fffffffu
#define CTREE_RED 0x80000000u

/*
 * A tree is cut into shards by the upper bits of its keys, each with a root of its own: the twelve
 * topmost levels become one array access. With 2^17 entries a look-up is then 5 steps in place of
 * 17, each of which misses the cache. With 2^20 unique pages and pages in the cache, a page's
 * first look-up takes 0.43 us in place of 0.68, hashing included, and with 2^15 pages 0.24 in place
 * of 0.43. The 2^12 roots are 16 KiB for each tree, which a domain of one small process can afford;
 * 2^16 roots would save another quarter, for 256 KiB.
 */
#define CTREE_SHARD_BITS 12
#define CTREE_SHARDS (1u << CTREE_SHARD_BITS)

static inline uint32_t ctree_shard(uint64_t key)
{
	return (uint32_t)(key >> (64 - CTREE_SHARD_BITS));
}

/* The roots of some trees, CTREE_SHARDS of each; those of tree n lie in place n of `memory`. */
struct ctree_roots {
	uint32_t *of[SLAB_PLACES];
	uint32_t nr; /* of all trees together */
	const struct slab_memory *memory;
};

/* `nr_trees` empty trees, at most SLAB_PLACES. 0 or -ENOMEM; then, too, it can be deinited. */
int ctree_roots_init(struct ctree_roots *r, int nr_trees, const struct slab_memory *memory);
void ctree_roots_deinit(struct ctree_roots *r);

/* The root for this key in tree number `tree`. */
static inline uint32_t *ctree_root(const struct ctree_roots *r, int tree, uint64_t key)
{
	return &r->of[tree][ctree_shard(key)];
}

/* Root number i < nr of all. */
static inline uint32_t ctree_root_at(const struct ctree_roots *r, uint32_t i)
{
	return r->of[i / CTREE_SHARDS][i % CTREE_SHARDS];
}

struct ctree_links {
	uint32_t child[2];
	uint32_t parent; /* bit 31: this node is red */
};

#define CTREE_WARM 64u

#define CTREE_CAT2(a, b) a##b
#define CTREE_CAT(a, b) CTREE_CAT2(a, b)

#endif /* KSM_CTREE_H */

#ifdef CTREE_NAME

#define CT(x) CTREE_CAT(CTREE_NAME, x)

static inline uint32_t CT(_parent)(CTREE_CTX ctx, uint32_t i)
{
	return CTREE_LINKS(ctx, i)->parent & ~CTREE_RED;
}

static inline void CT(_set_parent)(CTREE_CTX ctx, uint32_t i, uint32_t p)
{
	struct ctree_links *l = CTREE_LINKS(ctx, i);

	l->parent = (l->parent & CTREE_RED) | p;
}

/* Leaves (NIL) are black. */
static inline int CT(_is_red)(CTREE_CTX ctx, uint32_t i)
{
	return i != CTREE_NIL && (CTREE_LINKS(ctx, i)->parent & CTREE_RED);
}

static inline void CT(_set_red)(CTREE_CTX ctx, uint32_t i, int red)
{
	struct ctree_links *l = CTREE_LINKS(ctx, i);

	l->parent = (l->parent & ~CTREE_RED) | (red ? CTREE_RED : 0);
}

/* The link that led down to `from` leads to `to`, which may be NIL. */
static inline void CT(_relink)(CTREE_CTX ctx, uint32_t *root, uint32_t from, uint32_t to)
{
	uint32_t p = CT(_parent)(ctx, from);

	if (p == CTREE_NIL) {
		*root = to;
	} else {
		struct ctree_links *l = CTREE_LINKS(ctx, p);

		l->child[l->child[1] == from] = to;
	}
	if (to != CTREE_NIL)
		CT(_set_parent)(ctx, to, p);
}

/* i goes down on side d, its child of the other side comes up. */
static inline void CT(_rotate)(CTREE_CTX ctx, uint32_t *root, uint32_t i, int d)
{
	uint32_t up = CTREE_LINKS(ctx, i)->child[!d];
	uint32_t mid = CTREE_LINKS(ctx, up)->child[d];

	CT(_relink)(ctx, root, i, up);
	CTREE_LINKS(ctx, i)->child[!d] = mid;
	if (mid != CTREE_NIL)
		CT(_set_parent)(ctx, mid, i);
	CTREE_LINKS(ctx, up)->child[d] = i;
	CT(_set_parent)(ctx, i, up);
}

static inline uint32_t CT(_find)(CTREE_CTX ctx, uint32_t root, uint64_t key)
{
	while (root != CTREE_NIL) {
		uint64_t k = CTREE_KEY(ctx, root);

		if (k == key)
			break;
		root = CTREE_LINKS(ctx, root)->child[k < key];
	}
	return root;
}

/*
 * Each step down a tree misses the cache. Searches that take their steps together have their misses
 * together, and a look-up after this finds everything near.
 */
static inline void CT(_warm)(CTREE_CTX ctx, const struct ctree_roots *roots, const int *tree,
			     const uint64_t *key, unsigned int nr)
{
	uint32_t *root[CTREE_WARM], at[CTREE_WARM];
	unsigned int left;

	for (unsigned int i = 0; i < nr; i++) {
		root[i] = ctree_root(roots, tree[i], key[i]);
		__builtin_prefetch(root[i]);
	}
	for (unsigned int i = 0; i < nr; i++) {
		at[i] = *root[i];
		if (at[i] != CTREE_NIL)
			__builtin_prefetch(CTREE_LINKS(ctx, at[i]));
	}
	do {
		left = 0;
		for (unsigned int i = 0; i < nr; i++) {
			uint64_t k;

			if (at[i] == CTREE_NIL)
				continue;
			k = CTREE_KEY(ctx, at[i]);
			at[i] = k == key[i] ? CTREE_NIL :
					      CTREE_LINKS(ctx, at[i])->child[k < key[i]];
			if (at[i] == CTREE_NIL)
				continue;
			__builtin_prefetch(CTREE_LINKS(ctx, at[i]));
			left++;
		}
	} while (left);
}

static inline void CT(_insert_fixup)(CTREE_CTX ctx, uint32_t *root, uint32_t i)
{
	for (;;) {
		uint32_t p = CT(_parent)(ctx, i), g, u;
		int d;

		if (p == CTREE_NIL || !CT(_is_red)(ctx, p))
			break;
		g = CT(_parent)(ctx, p); /* exists: the root is black */
		d = CTREE_LINKS(ctx, g)->child[1] == p;
		u = CTREE_LINKS(ctx, g)->child[!d];
		if (CT(_is_red)(ctx, u)) {
			CT(_set_red)(ctx, p, 0);
			CT(_set_red)(ctx, u, 0);
			CT(_set_red)(ctx, g, 1);
			i = g;
			continue;
		}
		if (CTREE_LINKS(ctx, p)->child[!d] == i) {
			CT(_rotate)(ctx, root, p, d);
			p = i;
		}
		CT(_set_red)(ctx, p, 0);
		CT(_set_red)(ctx, g, 1);
		CT(_rotate)(ctx, root, g, !d);
		break;
	}
	CT(_set_red)(ctx, *root, 0);
}

static inline uint32_t CT(_insert)(CTREE_CTX ctx, uint32_t *root, uint32_t i)
{
	uint64_t key = CTREE_KEY(ctx, i);
	uint32_t at = *root, parent = CTREE_NIL;
	struct ctree_links *l;
	int d = 0;

	while (at != CTREE_NIL) {
		uint64_t k = CTREE_KEY(ctx, at);

		if (k == key)
			return at;
		parent = at;
		d = k < key;
		at = CTREE_LINKS(ctx, at)->child[d];
	}
	l = CTREE_LINKS(ctx, i);
	l->child[0] = l->child[1] = CTREE_NIL;
	l->parent = parent | CTREE_RED;
	if (parent == CTREE_NIL)
		*root = i;
	else
		CTREE_LINKS(ctx, parent)->child[d] = i;
	CT(_insert_fixup)(ctx, root, i);
	return CTREE_NIL;
}

/* The paths through x (child of par, perhaps NIL) are one black node short. */
static inline void CT(_erase_fixup)(CTREE_CTX ctx, uint32_t *root, uint32_t x, uint32_t par)
{
	while (x != *root && !CT(_is_red)(ctx, x)) {
		int d = CTREE_LINKS(ctx, par)->child[1] == x;
		uint32_t w = CTREE_LINKS(ctx, par)->child[!d]; /* exists: it has a black more */

		if (CT(_is_red)(ctx, w)) {
			CT(_set_red)(ctx, w, 0);
			CT(_set_red)(ctx, par, 1);
			CT(_rotate)(ctx, root, par, d);
			w = CTREE_LINKS(ctx, par)->child[!d];
		}
		if (!CT(_is_red)(ctx, CTREE_LINKS(ctx, w)->child[0]) &&
		    !CT(_is_red)(ctx, CTREE_LINKS(ctx, w)->child[1])) {
			CT(_set_red)(ctx, w, 1);
			x = par;
			par = CT(_parent)(ctx, x);
			continue;
		}
		if (!CT(_is_red)(ctx, CTREE_LINKS(ctx, w)->child[!d])) {
			CT(_set_red)(ctx, CTREE_LINKS(ctx, w)->child[d], 0);
			CT(_set_red)(ctx, w, 1);
			CT(_rotate)(ctx, root, w, !d);
			w = CTREE_LINKS(ctx, par)->child[!d];
		}
		CT(_set_red)(ctx, w, CT(_is_red)(ctx, par));
		CT(_set_red)(ctx, par, 0);
		CT(_set_red)(ctx, CTREE_LINKS(ctx, w)->child[!d], 0);
		CT(_rotate)(ctx, root, par, d);
		x = *root;
	}
	if (x != CTREE_NIL)
		CT(_set_red)(ctx, x, 0);
}

static inline void CT(_erase)(CTREE_CTX ctx, uint32_t *root, uint32_t i)
{
	struct ctree_links *l = CTREE_LINKS(ctx, i), *ly;
	uint32_t x, par, y = i;
	int red = CT(_is_red)(ctx, i);

	if (l->child[0] == CTREE_NIL || l->child[1] == CTREE_NIL) {
		x = l->child[l->child[0] == CTREE_NIL];
		par = CT(_parent)(ctx, i);
		CT(_relink)(ctx, root, i, x);
	} else {
		y = l->child[1];
		while (CTREE_LINKS(ctx, y)->child[0] != CTREE_NIL)
			y = CTREE_LINKS(ctx, y)->child[0];
		ly = CTREE_LINKS(ctx, y);
		red = CT(_is_red)(ctx, y);
		x = ly->child[1];
		par = CT(_parent)(ctx, y);
		if (par == i) {
			par = y;
		} else {
			CT(_relink)(ctx, root, y, x);
			ly->child[1] = l->child[1];
			CT(_set_parent)(ctx, ly->child[1], y);
		}
		CT(_relink)(ctx, root, i, y);
		ly->child[0] = l->child[0];
		CT(_set_parent)(ctx, ly->child[0], y);
		CT(_set_red)(ctx, y, CT(_is_red)(ctx, i));
	}
	if (!red)
		CT(_erase_fixup)(ctx, root, x, par);
}

static inline void CT(_replace)(CTREE_CTX ctx, uint32_t *root, uint32_t i, uint32_t j)
{
	struct ctree_links *l = CTREE_LINKS(ctx, j);

	*l = *CTREE_LINKS(ctx, i);
	CT(_relink)(ctx, root, i, j);
	for (int d = 0; d < 2; d++)
		if (l->child[d] != CTREE_NIL)
			CT(_set_parent)(ctx, l->child[d], j);
}

static inline uint32_t CT(_root_of)(CTREE_CTX ctx, uint32_t i)
{
	uint32_t p;

	while ((p = CT(_parent)(ctx, i)) != CTREE_NIL)
		i = p;
	return i;
}

/* Black height of the subtree, or -1: order, colours, heights and parent links all checked. */
static inline int CT(_check_sub)(CTREE_CTX ctx, uint32_t i, uint32_t parent, uint64_t lo,
				 uint64_t hi, uint64_t *nr)
{
	struct ctree_links *l;
	uint64_t key;
	int a, b;

	if (i == CTREE_NIL)
		return 1;
	l = CTREE_LINKS(ctx, i);
	key = CTREE_KEY(ctx, i);
	if (CT(_parent)(ctx, i) != parent || key < lo || key > hi)
		return -1;
	if (CT(_is_red)(ctx, i) && (parent == CTREE_NIL || CT(_is_red)(ctx, parent)))
		return -1;
	if ((l->child[0] != CTREE_NIL && key == 0) ||
	    (l->child[1] != CTREE_NIL && key == UINT64_MAX))
		return -1;
	(*nr)++;
	a = CT(_check_sub)(ctx, l->child[0], i, lo, key - 1, nr);
	b = CT(_check_sub)(ctx, l->child[1], i, key + 1, hi, nr);
	if (a < 0 || a != b)
		return -1;
	return a + !CT(_is_red)(ctx, i);
}

static inline int CT(_check)(CTREE_CTX ctx, uint32_t root, uint64_t *nr)
{
	*nr = 0;
	return CT(_check_sub)(ctx, root, CTREE_NIL, 0, UINT64_MAX, nr) < 0 ? -1 : 0;
}

#undef CT
#undef CTREE_NAME
#undef CTREE_CTX
#undef CTREE_LINKS
#undef CTREE_KEY
#endif /* CTREE_NAME */
