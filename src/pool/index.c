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

bool index_worth_compacting(const uint64_t nr[POOL_ORDERS], unsigned int order, int threshold)
{
	return frames_from(nr, 0) >= 1u << order && index_fragmentation(nr, order) > threshold;
}

static void draw(const struct zone *z, const struct extent *x, uint32_t b, char at[2])
	NEEDS(z->lock)
{
	static const char kinds[POOL_TYPES] = {
		[POOL_UNMOVABLE] = 'u', [POOL_MOVABLE] = 'm', [POOL_RESERVE] = 'r'
	};
	uint64_t bit = u64_bit(b % EXTENT_PAGEBLOCKS);
	const struct pageblock *pb = x->pb[b % EXTENT_PAGEBLOCKS];
	uint32_t tenths;

	if (!pb) {
		memset(at,
		       b >= z->nr_blocks ? ' ' :
		       x->offline & bit  ? 'x' :
		       x->isolated & bit ? 'I' :
					   '-',
		       2);
		return;
	}
	tenths = ((pb->n[POOL_USED] + pb->n[POOL_RETIRED]) * 10u + pb->nr - 1) / pb->nr;
	at[0] = pb->window ? 'w' : kinds[pb->type];
	if (pb->isolated)
		at[0] = (char)(at[0] - 'a' + 'A');
	at[1] = (char)('0' + (tenths < 9 ? tenths : 9));
}

bool index_map(struct pool *p, int nid, uint32_t *extent, char map[INDEX_MAP_CHARS])
{
	struct zone *z = &p->zone[nid];
	bool found;

	lock_take(&z->lock);
	while (*extent < z->max_ext && !z->ext[*extent])
		++*extent;
	found = *extent < z->max_ext;
	for (uint32_t i = 0; found && i < EXTENT_PAGEBLOCKS; i++)
		draw(z, z->ext[*extent], *extent * EXTENT_PAGEBLOCKS + i, map + (size_t)2 * i);
	lock_give(&z->lock);
	return found;
}
