/* SPDX-License-Identifier: MIT */
/*
 * index.h - how fragmented the free frames of a zone are.
 *
 * Both indices are those of Mel Gorman's thesis that the kernel shows in debugfs (extfrag), in
 * thousandths. Free runs of isolated pageblocks do not count, nor do absent pageblocks: a zone that
 * can still grow need not be compacted for a run.
 */
#ifndef KSM_INDEX_H
#define KSM_INDEX_H

#include "pool/pool.h"

#define INDEX_FITS (-1000)
#define INDEX_MAP_CHARS (2 * EXTENT_PAGEBLOCKS)

/* Free runs of each order that are not isolated, of one type or (type == POOL_TYPES) of all. */
void index_runs(struct pool *p, int nid, unsigned int type, uint64_t nr[POOL_ORDERS]);
/* Share of the free frames that a run of that order cannot have: 0 (none) to 1000 (all). */
int index_unusable(const uint64_t nr[POOL_ORDERS], unsigned int order);
/*
 * Why a run of that order cannot be had: towards 0 for want of memory, towards 1000 because of
 * fragmentation. INDEX_FITS: there is such a run, and the index means nothing.
 */
int index_fragmentation(const uint64_t nr[POOL_ORDERS], unsigned int order);
/*
 * Is it worth moving frames together for a run of that order? Not if there is one, or fewer frames
 * are free than it has (the kernel asks its watermarks), or the fragmentation index is not above
 * `threshold`, 0..1000.
 */
bool index_worth_compacting(const uint64_t nr[POOL_ORDERS], unsigned int order, int threshold);

/*
 * What the pageblocks of the zone's first extent from *extent on are, two characters each: of what
 * kind (m movable, u unmovable, r reserve, w window; a capital: isolated) and how many tenths of
 * it are used or retired, rounded up, but 9 at most; "--" absent, "II" absent and isolated, "xx"
 * out of use, "  " beyond the zone. *extent becomes its number. False: there is none.
 */
bool index_map(struct pool *p, int nid, uint32_t *extent, char map[INDEX_MAP_CHARS]);

#endif
