/* SPDX-License-Identifier: MIT */
/*
 * unstable.c - trees of calm pages whose content no other page has yet.
 *
 * The kernel throws its unstable tree away after every pass, because it cannot tell which of the
 * pages changed. Here change tracking tells, and a written page leaves the tree. Between the write
 * and the next look an entry can be stale; that leads at worst to an order that the client refuses.
 */
#include "engine/unstable.h"

#define CTREE_NAME ut
#define CTREE_CTX struct engine *
#define CTREE_LINKS(e, i) (&rmap_item(e, i)->t)
#define CTREE_KEY(e, i) item_hash(rmap_item(e, i))
#include "engine/ctree.h"

void unstable_warm(struct engine *e, const int *root, const uint64_t *hash, unsigned int nr)
{
	ut_warm(e, &e->unstable, root, hash, nr);
}

uint32_t unstable_find(struct engine *e, int root, uint64_t hash)
{
	return ut_find(e, *ctree_root(&e->unstable, root, hash), hash);
}

bool unstable_insert(struct engine *e, int root, uint32_t item)
{
	uint64_t hash = item_hash(rmap_item(e, item));

	return ut_insert(e, ctree_root(&e->unstable, root, hash), item) == NIL;
}

/*
 * The item has no room for the number of its tree; the way up finds it, and the engine walks it
 * only when there is more than one tree.
 */
int unstable_root(struct engine *e, uint32_t item)
{
	uint64_t hash = item_hash(rmap_item(e, item));
	uint32_t top;
	int r = 0;

	if (e->nr_nodes > 1) {
		top = ut_root_of(e, item);
		while (*ctree_root(&e->unstable, r, hash) != top)
			r++;
	}
	return r;
}

void unstable_erase(struct engine *e, uint32_t item)
{
	uint64_t hash = item_hash(rmap_item(e, item));

	ut_erase(e, ctree_root(&e->unstable, unstable_root(e, item), hash), item);
}

void unstable_replace(struct engine *e, uint32_t from, uint32_t to)
{
	uint64_t hash = item_hash(rmap_item(e, from));

	ut_replace(e, ctree_root(&e->unstable, unstable_root(e, from), hash), from, to);
}

int unstable_check(struct engine *e)
{
	uint64_t nr, all = 0;

	for (uint32_t r = 0; r < e->unstable.nr; r++) {
		if (ut_check(e, ctree_root_at(&e->unstable, r), &nr))
			return -1;
		all += nr;
	}
	return all == e->nr_state[RMAP_UNSTABLE] ? 0 : -1;
}
