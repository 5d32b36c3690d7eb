/* SPDX-License-Identifier: MIT */
/*
 * pageblock.c - what of a pageblock is not worth inlining.
 */
#include "pool/pageblock.h"

#include <stdlib.h>

struct pageblock *pageblock_new(int nid)
{
	struct pageblock *pb = calloc(1, sizeof(*pb));

	if (!pb)
		return NULL;
	pb->nr_free = PAGEBLOCK_FRAMES;
	pb->nid = nid;
	return pb;
}

uint32_t pageblock_recount(const struct pageblock *pb, int nid)
{
	uint32_t used = bits_ones(pb->used, PAGEBLOCK_FRAMES);

	return used + pb->nr_free == PAGEBLOCK_FRAMES && pb->nid == nid ? used : POOL_NONE;
}
