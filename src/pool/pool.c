/* SPDX-License-Identifier: MIT */
/*
 * pool.c - all zones (see pool.h).
 *
 * Safe because the pool hands a frame out only while its bit is clear, and pool_free() alone clears
 * the bit. Its caller does that when no process can map the frame any more.
 */
#include "pool/pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_NUMBERS 0xfffffffeull /* the two highest numbers mean "none" and "zero page" to users */

int pool_init(struct pool *p, int nr_zones, uint32_t zone_frames)
{
	memset(p, 0, sizeof(*p));
	if (nr_zones < 1 || !zone_frames || (uint64_t)nr_zones * zone_frames > MAX_NUMBERS)
		return -EINVAL;
	p->zone = calloc((size_t)nr_zones, sizeof(*p->zone));
	if (!p->zone)
		return -ENOMEM;
	p->nr_zones = nr_zones;
	p->zone_frames = zone_frames;
	for (int nid = 0; nid < nr_zones; nid++) {
		if (zone_init(&p->zone[nid], nid, zone_frames)) {
			pool_deinit(p);
			return -ENOMEM;
		}
	}
	return 0;
}

void pool_deinit(struct pool *p)
{
	for (int nid = 0; nid < p->nr_zones; nid++)
		zone_deinit(&p->zone[nid]);
	free(p->zone);
	memset(p, 0, sizeof(*p));
}

uint32_t pool_alloc(struct pool *p, int nid, uint32_t best, uint32_t second)
{
	uint32_t base = (uint32_t)nid * p->zone_frames, f;
	struct zone *z = &p->zone[nid];

	if (pool_is_free(p, nid, best))
		f = best - base;
	else if (pool_is_free(p, nid, second))
		f = second - base;
	else
		f = zone_any_free(z);
	if (f == POOL_NONE || zone_take(z, f))
		return POOL_NONE;
	p->nr_used++;
	return base + f;
}

void pool_free(struct pool *p, uint32_t frame)
{
	assert(pool_is_used(p, frame));
	zone_give(&p->zone[frame / p->zone_frames], frame % p->zone_frames);
	p->nr_used--;
}

uint32_t pool_extent_reserve(struct pool *p, int nid)
{
	uint32_t first = zone_extent_reserve(&p->zone[nid]);

	return first == POOL_NONE ? POOL_NONE : (uint32_t)nid * p->zone_frames + first;
}

void pool_extent_release(struct pool *p, uint32_t first)
{
	zone_extent_release(&p->zone[first / p->zone_frames], first % p->zone_frames);
}

uint64_t pool_bytes(const struct pool *p)
{
	uint64_t bytes = 0;

	for (int nid = 0; nid < p->nr_zones; nid++)
		bytes += p->zone[nid].bytes;
	return bytes;
}

int pool_check(const struct pool *p)
{
	uint64_t used = 0;

	for (int nid = 0; nid < p->nr_zones; nid++)
		if (zone_check(&p->zone[nid], &used))
			return -1;
	return used == p->nr_used ? 0 : -1;
}
