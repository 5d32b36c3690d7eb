/* SPDX-License-Identifier: MIT */
/*
 * extent.c - taking and giving back the frames of an extent (see extent.h).
 */
#include "pool/extent.h"

#include <errno.h>
#include <stdlib.h>

struct extent *extent_new(void)
{
	return calloc(1, sizeof(struct extent));
}

void extent_free(struct extent *x)
{
	for (uint32_t b = 0; x && b < EXTENT_PAGEBLOCKS; b++)
		free(x->pb[b]);
	free(x);
}

int extent_take(struct extent *x, int nid, uint32_t f, uint64_t *bytes)
{
	struct pageblock **pb = &x->pb[f / PAGEBLOCK_FRAMES];

	if (!*pb) {
		*pb = pageblock_new(nid);
		if (!*pb)
			return -ENOMEM;
		*bytes += sizeof(**pb);
	}
	pageblock_take(*pb, f % PAGEBLOCK_FRAMES);
	x->nr_used++;
	return 0;
}

void extent_give(struct extent *x, uint32_t f, uint64_t *bytes)
{
	uint32_t b = f / PAGEBLOCK_FRAMES;

	x->nr_used--;
	if (b < x->hint)
		x->hint = b;
	if (!pageblock_give(x->pb[b], f % PAGEBLOCK_FRAMES))
		return;
	free(x->pb[b]);
	x->pb[b] = NULL;
	*bytes -= sizeof(struct pageblock);
}

uint32_t extent_first_free(struct extent *x)
{
	uint32_t b = x->hint;

	for (; x->pb[b] && !x->pb[b]->nr_free; b++)
		x->hint = b + 1;
	return b * PAGEBLOCK_FRAMES + (x->pb[b] ? pageblock_first_free(x->pb[b]) : 0);
}

int extent_check(const struct extent *x, int nid)
{
	uint32_t used = 0;

	for (uint32_t b = 0; b < EXTENT_PAGEBLOCKS; b++) {
		uint32_t in_pb = x->pb[b] ? pageblock_recount(x->pb[b], nid) : 0;

		if (x->pb[b] && (!in_pb || in_pb == POOL_NONE))
			return -1;
		if (b < x->hint && in_pb != PAGEBLOCK_FRAMES)
			return -1;
		used += in_pb;
	}
	return used == x->nr_used && (used || x->reserved) ? 0 : -1;
}
