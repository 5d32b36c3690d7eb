/* SPDX-License-Identifier: MIT */
/* unstable.h - trees of calm pages whose content no other page has yet. */
#ifndef KSM_UNSTABLE_H
#define KSM_UNSTABLE_H

#include "engine/core.h"

/* Bring what look-ups of these hashes, each in its tree, will touch into the cache. nr <= 64. */
void unstable_warm(struct engine *e, const int *root, const uint64_t *hash, unsigned int nr)
	NEEDS(e->lock);
/* The item of this content, or NIL. */
uint32_t unstable_find(struct engine *e, int root, uint64_t hash) NEEDS(e->lock);
/* False: the content is there already. */
bool unstable_insert(struct engine *e, int root, uint32_t item) NEEDS(e->lock);
/* Number of the tree that the item is in. */
int unstable_root(struct engine *e, uint32_t item) NEEDS(e->lock);
void unstable_erase(struct engine *e, uint32_t item) NEEDS(e->lock);
/* The item `to`, which has the same hash and is in no tree, takes the place of `from`. */
void unstable_replace(struct engine *e, uint32_t from, uint32_t to) NEEDS(e->lock);
/* Verify the trees and recount. 0 or -1. */
int unstable_check(struct engine *e) NEEDS(e->lock);

#endif
