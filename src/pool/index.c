/* SPDX-License-Identifier: MIT */
/* index.c - see index.h. */
#include "pool/index.h"

#include <string.h>

static void add_list(struct zone *z, unsigned int list, uint64_t nr[POOL_ORDERS]) NEEDS(z->lock)
{
	for (unsigned int o = 0; o < POOL_ORDERS; o++)
		for (const struct pageblock *pb = z->list[list][o]; pb; pb = pb->link[o].next)
			nr[o] += o == POOL_MAX_ORDER ? 1 : pb->nr_run[o];
}

void index_runs(struct pool *p, int nid, unsigned int type, uint64_t nr[POOL_ORDERS])
{
	struct zone *z = &p->zone[nid];

	memset(nr, 0, POOL_ORDERS * sizeof(*nr));
	lock_take(&z->lock);
	for (unsigned int t = 0; t < POOL_TYPES; t++)
		if (type == POOL_TYPES || type == t)
			add_list(z, t, nr);
	lock_give(&z->lock);
}

/* Free frames in runs of that order or larger. */
static uint64_t frames_from(const uint64_t nr[POOL_ORDERS], unsigned int order)
{
	uint64_t sum = 0;

	for (unsigned int o = order; o < POOL_ORDERS; o++)
		sum += nr[o] << o;
	return sum;
}

int index_unusable(const uint64_t nr[POOL_ORDERS], unsigned int order)
{
	uint64_t free = frames_from(nr, 0);

	if (!free)
		return 1000; /* as the kernel: nothing is usable */
	return (int)((free - frames_from(nr, order)) * 1000 / free);
}

int index_fragmentation(const uint64_t nr[POOL_ORDERS], unsigned int order)
{
	uint64_t runs = 0;

	for (unsigned int o = 0; o < POOL_ORDERS; o++)
		runs += nr[o];
	if (!runs)
		return 0;
	if (frames_from(nr, order))
		return INDEX_FITS;
	return (int)(1000 - (1000 + (frames_from(nr, 0) * 1000 >> order)) / runs);
}
