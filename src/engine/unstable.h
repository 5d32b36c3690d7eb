/* SPDX-License-Identifier: MIT */
/* unstable.h - trees of calm pages whose content nobody else has yet. */
#ifndef KSM_UNSTABLE_H
#define KSM_UNSTABLE_H

#include "engine/core.h"

/* As stable_warm(). */
void unstable_warm(struct engine *e, const int *root, const uint64_t *hash, unsigned int nr);
uint32_t unstable_find(struct engine *e, int root, uint64_t hash); /* item, or NIL */
bool unstable_insert(struct engine *e, int root, uint32_t item);   /* false: content is there */
void unstable_erase(struct engine *e, uint32_t item);
int unstable_check(struct engine *e);

#endif
