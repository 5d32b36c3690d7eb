/* SPDX-License-Identifier: MIT */
/*
 * zone.c - extents come into being with their first use and go with their last (see zone.h).
 */
#include "pool/zone.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int zone_init(struct zone *z, int nid, uint32_t nr_frames)
{
	memset(z, 0, sizeof(*z));
	z->nid = nid;
	z->nr_frames = nr_frames;
	z->max_ext = nr_frames / EXTENT_FRAMES + !!(nr_frames % EXTENT_FRAMES);
	z->fill = POOL_NONE;
	z->ext = calloc(z->max_ext, sizeof(struct extent *));
	if (!z->ext)
		return -ENOMEM;
	z->bytes = sizeof(*z) + z->max_ext * sizeof(struct extent *);
	return 0;
}

void zone_deinit(struct zone *z)
{
	for (uint32_t i = 0; z->ext && i < z->max_ext; i++)
		extent_free(z->ext[i]);
	free(z->ext);
	memset(z, 0, sizeof(*z));
}

static uint32_t frames_of(const struct zone *z, uint32_t i)
{
	uint32_t left = z->nr_frames - i * EXTENT_FRAMES;

	return left < EXTENT_FRAMES ? left : EXTENT_FRAMES;
}

static bool has_room(const struct zone *z, uint32_t i)
{
	return !z->ext[i] || z->ext[i]->nr_used < frames_of(z, i);
}

/* Extent i, made if need be, or NULL (ENOMEM). */
static struct extent *extent_at(struct zone *z, uint32_t i)
{
	if (z->ext[i])
		return z->ext[i];
	z->ext[i] = extent_new();
	if (z->ext[i]) {
		z->bytes += sizeof(struct extent);
		z->nr_ext++;
	}
	return z->ext[i];
}

/* Free extent i unless something keeps it. */
static void drop_unused(struct zone *z, uint32_t i)
{
	if (z->ext[i]->nr_used || z->ext[i]->reserved)
		return;
	extent_free(z->ext[i]);
	z->ext[i] = NULL;
	z->bytes -= sizeof(struct extent);
	z->nr_ext--;
	if (z->fill == i)
		z->fill = POOL_NONE;
}

/* Extent for scattered frames, in the order that zone_any_free() promises. */
static uint32_t pick_fill(struct zone *z)
{
	uint32_t absent = POOL_NONE, reserved = POOL_NONE;

	if (z->fill != POOL_NONE && has_room(z, z->fill))
		return z->fill;
	for (uint32_t i = 0; i < z->max_ext; i++) {
		if (!z->ext[i]) {
			if (absent == POOL_NONE)
				absent = i;
		} else if (has_room(z, i)) {
			if (!z->ext[i]->reserved)
				return z->fill = i;
			if (reserved == POOL_NONE)
				reserved = i;
		}
	}
	if (absent != POOL_NONE)
		return z->fill = absent;
	return reserved; /* not remembered: its owner comes first */
}

uint32_t zone_any_free(struct zone *z)
{
	uint32_t i = pick_fill(z);

	if (i == POOL_NONE)
		return POOL_NONE;
	return i * EXTENT_FRAMES + (z->ext[i] ? extent_first_free(z->ext[i]) : 0);
}

int zone_take(struct zone *z, uint32_t f)
{
	uint32_t i = f / EXTENT_FRAMES;
	struct extent *x = extent_at(z, i);

	if (!x)
		return -ENOMEM;
	if (extent_take(x, z->nid, f % EXTENT_FRAMES, &z->bytes)) {
		drop_unused(z, i);
		return -ENOMEM;
	}
	return 0;
}

void zone_give(struct zone *z, uint32_t f)
{
	uint32_t i = f / EXTENT_FRAMES;

	extent_give(z->ext[i], f % EXTENT_FRAMES, &z->bytes);
	drop_unused(z, i);
}

uint32_t zone_extent_reserve(struct zone *z)
{
	for (uint32_t n = 0; z->nr_ext < z->max_ext && n < z->max_ext; n++) {
		uint32_t i = z->next;
		struct extent *x;

		z->next = i + 1 < z->max_ext ? i + 1 : 0;
		if (z->ext[i] || i == z->fill)
			continue;
		x = extent_at(z, i);
		if (!x)
			return POOL_NONE;
		x->reserved = true;
		return i * EXTENT_FRAMES;
	}
	return POOL_NONE;
}

void zone_extent_release(struct zone *z, uint32_t first)
{
	uint32_t i = first / EXTENT_FRAMES;

	assert(z->ext[i] && z->ext[i]->reserved);
	z->ext[i]->reserved = false;
	drop_unused(z, i);
}

int zone_check(const struct zone *z, uint64_t *used)
{
	uint32_t nr_ext = 0;

	for (uint32_t i = 0; i < z->max_ext; i++) {
		if (!z->ext[i])
			continue;
		if (extent_check(z->ext[i], z->nid) || z->ext[i]->nr_used > frames_of(z, i))
			return -1;
		nr_ext++;
		*used += z->ext[i]->nr_used;
	}
	return nr_ext == z->nr_ext ? 0 : -1;
}
