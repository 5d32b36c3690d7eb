/* SPDX-License-Identifier: MIT */
/* ctree.c - the roots of the trees of ctree.h, and where they lie. */
#include "engine/ctree.h"

#include <errno.h>
#include <stdlib.h>

#define TREE_BYTES (CTREE_SHARDS * sizeof(uint32_t))

int ctree_roots_init(struct ctree_roots *r, int nr_trees, const struct slab_memory *memory)
{
	*r = (struct ctree_roots){ .memory = memory };
	for (int n = 0; n < nr_trees; n++) {
		uint32_t *root = memory ? memory->get(memory->arg, TREE_BYTES, (unsigned int)n) :
					  malloc(TREE_BYTES);

		if (!root)
			return -ENOMEM;
		for (uint32_t i = 0; i < CTREE_SHARDS; i++)
			root[i] = CTREE_NIL;
		r->of[n] = root;
		r->nr += CTREE_SHARDS;
	}
	return 0;
}

void ctree_roots_deinit(struct ctree_roots *r)
{
	for (uint32_t n = 0; n < r->nr / CTREE_SHARDS; n++)
		if (r->memory)
			r->memory->put(r->memory->arg, r->of[n], TREE_BYTES);
		else
			free(r->of[n]);
}
