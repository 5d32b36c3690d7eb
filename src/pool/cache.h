/* SPDX-License-Identifier: MIT */
/*
 * cache.h - free frames of one thread (struct pool_cache in zone.h).
 *
 * Taking a frame from a cache, or giving one to it, needs the cache's own lock and not the zone's.
 * Frames of a cache are neither used nor in a free run. None of them is ever in a pageblock that is
 * isolated or somebody's window: whoever isolates one holds the locks of all caches, and takes
 * their frames in it out first (cache_purge()); and a frame goes into a cache only after a look at
 * its pageblock under the cache's lock.
 */
#ifndef KSM_CACHE_H
#define KSM_CACHE_H

#include "pool/zone.h"

/* A movable frame, POOL_USED now, or POOL_NONE: neither the cache nor the zone has one. */
uint32_t cache_alloc(struct zone *z, uint32_t cache) NEEDS_NOT(z->lock);
/* The same for this very frame, if it is in this cache. */
bool cache_take(struct zone *z, uint32_t cache, uint32_t f) NEEDS_NOT(z->lock);
/* A used frame comes back. False: it does not belong into a cache, give it to the zone. */
bool cache_give(struct zone *z, uint32_t cache, uint32_t f) NEEDS_NOT(z->lock);
/* All of it goes to the zone: the thread rests. */
void cache_drain(struct zone *z, uint32_t cache) NEEDS_NOT(z->lock);
/* The caller has all locks: frames in [first, end) leave all caches and become free. */
void cache_purge(struct zone *z, uint32_t first, uint32_t end) NEEDS(z->lock);
/* The caller has all locks: frames in caches, by type; returns their sum. */
uint64_t cache_count(struct zone *z, uint64_t nr[POOL_TYPES]) NEEDS(z->lock);

#endif
