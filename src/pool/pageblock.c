/* SPDX-License-Identifier: MIT */
/*
 * pageblock.c - the free runs of a pageblock (see pageblock.h).
 *
 * Joining never looks beyond the pageblock, so a run cannot reach over the edge of an isolated one.
 * The one run that is longer, a pair of empty pageblocks, is the zone's (zone.c).
 */
#include "pool/pageblock.h"

#include <assert.h>
#include <stdlib.h>

/* First word of each order's bits in pageblock.run. */
static const uint8_t first_word[PAGEBLOCK_ORDER + 1] = { 0, 8, 12, 14, 15, 16, 17, 18, 19, 20 };

struct pageblock *pageblock_new(uint32_t first, uint32_t nr, enum pool_type type)
{
	struct pageblock *pb = calloc(1, sizeof(*pb));

	if (!pb)
		return NULL;
	pb->first = first;
	pb->nr = (uint16_t)nr;
	pb->type = (uint8_t)type;
	pb->n[POOL_ABSENT] = (uint16_t)nr;
	return pb;
}

static uint64_t *bits_of(struct pageblock *pb, unsigned int order)
{
	return pb->run + first_word[order];
}

static void set_run(struct pageblock *pb, uint32_t off, unsigned int order)
{
	bits_set(bits_of(pb, order), off >> order);
	pb->nr_run[order]++;
	pb->has |= (uint16_t)(1u << order);
}

static void clear_run(struct pageblock *pb, uint32_t off, unsigned int order)
{
	bits_clear(bits_of(pb, order), off >> order);
	if (!--pb->nr_run[order])
		pb->has &= (uint16_t) ~(1u << order);
}

static bool is_run(const struct pageblock *pb, uint32_t off, unsigned int order)
{
	return bits_test(pb->run + first_word[order], off >> order);
}

void pageblock_join(struct pageblock *pb, uint32_t off, unsigned int order)
{
	while (order < PAGEBLOCK_ORDER && is_run(pb, off ^ 1u << order, order)) {
		clear_run(pb, off ^ 1u << order, order);
		off &= ~(1u << order);
		order++;
	}
	set_run(pb, off, order);
}

void pageblock_cut(struct pageblock *pb, uint32_t off, unsigned int order)
{
	unsigned int from = order;

	while (!is_run(pb, off, from)) {
		from++;
		assert(from <= PAGEBLOCK_ORDER);
	}
	clear_run(pb, off & ~((1u << from) - 1), from);
	while (from > order) {
		from--;
		set_run(pb, (off & ~((1u << from) - 1)) ^ 1u << from, from);
	}
}

uint32_t pageblock_first_run(const struct pageblock *pb, unsigned int order)
{
	const uint64_t *w = pb->run + first_word[order];
	uint32_t i = 0;

	while (!w[i])
		i++;
	return (i * BITS_PER_WORD + u64_first(w[i])) << order;
}

uint32_t pageblock_run_of(const struct pageblock *pb, uint32_t off, uint32_t *first)
{
	uint32_t end = off + 1;

	while (off && pb->state[off] & POOL_TAIL)
		off--;
	while (end < pb->nr && pb->state[end] & POOL_TAIL)
		end++;
	*first = off;
	return end - off;
}

/* The bits of all orders, frame by frame: each free frame in one run, no others. */
static int check_runs(const struct pageblock *pb)
{
	uint8_t covered[PAGEBLOCK_FRAMES] = { 0 };

	for (unsigned int order = 0; order <= PAGEBLOCK_ORDER; order++) {
		uint32_t nr = 0;

		for (uint32_t off = 0; off < PAGEBLOCK_FRAMES; off += 1u << order) {
			if (!is_run(pb, off, order))
				continue;
			nr++;
			if (order < PAGEBLOCK_ORDER && is_run(pb, off ^ 1u << order, order))
				return -1; /* should have been joined */
			for (uint32_t i = 0; i < 1u << order; i++)
				covered[off + i]++;
		}
		if (nr != pb->nr_run[order] || !nr != !(pb->has >> order & 1))
			return -1;
	}
	for (uint32_t off = 0; off < PAGEBLOCK_FRAMES; off++)
		if (covered[off] != (pageblock_state(pb, off) == POOL_FREE && !pb->paired))
			return -1;
	return 0;
}

int pageblock_check(const struct pageblock *pb)
{
	uint32_t n[POOL_STATES] = { 0 }, fixed = 0;

	for (uint32_t off = 0; off < PAGEBLOCK_FRAMES; off++) {
		enum pool_state s = pageblock_state(pb, off);

		if (off >= pb->nr && s != POOL_ABSENT)
			return -1;
		fixed += !!(pb->state[off] & POOL_FIXED);
		if (off < pb->nr)
			n[s == POOL_CACHED ? POOL_USED : s]++;
	}
	for (int s = 0; s < POOL_STATES; s++)
		if (n[s] != pb->n[s])
			return -1;
	if (fixed != pb->nr_fixed || (pb->paired && !pageblock_is_empty(pb)))
		return -1;
	return check_runs(pb);
}
