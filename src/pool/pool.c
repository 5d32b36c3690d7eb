/* SPDX-License-Identifier: MIT */
/*
 * pool.c - frame allocation (see pool.h for what it aims at).
 *
 * Safe because a frame is handed out only when its bit is clear, and the bit is cleared by
 * pool_free() alone, which the engine calls when no process can map the frame any more.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pool/pool.h"

int pool_init(struct pool *p, int nr_zones, uint32_t zone_frames, uint32_t max_frames)
{
	int z;

	memset(p, 0, sizeof(*p));
	/* The two highest numbers mean "none" and "zero page" on the wire. */
	if (nr_zones < 1 || !zone_frames || (uint64_t)nr_zones * zone_frames > 0xfffffffeull)
		return -EINVAL;
	p->nr_ext = zone_frames / POOL_EXT_FRAMES + !!(zone_frames % POOL_EXT_FRAMES);
	p->zone = calloc((size_t)nr_zones, sizeof(*p->zone));
	if (!p->zone)
		return -ENOMEM;
	p->nr_zones = nr_zones;
	p->zone_frames = zone_frames;
	p->max_frames = max_frames;
	for (z = 0; z < nr_zones; z++) {
		p->zone[z].ext = calloc(p->nr_ext, sizeof(*p->zone[z].ext));
		if (!p->zone[z].ext) {
			pool_deinit(p);
			return -ENOMEM;
		}
		p->zone[z].fill = POOL_NONE;
	}
	p->bytes = (uint64_t)nr_zones * (sizeof(*p->zone) + p->nr_ext * sizeof(*p->zone[0].ext));
	return 0;
}

void pool_deinit(struct pool *p)
{
	uint32_t i, b;
	int z;

	for (z = 0; z < p->nr_zones; z++) {
		for (i = 0; p->zone[z].ext && i < p->nr_ext; i++) {
			struct pool_extent *x = p->zone[z].ext[i];

			for (b = 0; x && b < POOL_EXT_PBS; b++)
				free(x->pb[b]);
			free(x);
		}
		free(p->zone[z].ext);
	}
	free(p->zone);
	memset(p, 0, sizeof(*p));
}

int pool_nid(const struct pool *p, uint32_t frame)
{
	return (int)(frame / p->zone_frames);
}

/* Frames of extent i: the last of a zone may be short. */
static uint32_t ext_frames(const struct pool *p, uint32_t i)
{
	uint32_t left = p->zone_frames - i * POOL_EXT_FRAMES;

	return left < POOL_EXT_FRAMES ? left : POOL_EXT_FRAMES;
}

static struct pool_extent *ext_get(struct pool *p, int nid, uint32_t i)
{
	struct pool_extent **x = &p->zone[nid].ext[i];

	if (!*x) {
		*x = calloc(1, sizeof(**x));
		if (*x) {
			p->bytes += sizeof(**x);
			p->zone[nid].nr_ext++;
		}
	}
	return *x;
}

static void ext_put(struct pool *p, int nid, uint32_t i)
{
	struct pool_extent **x = &p->zone[nid].ext[i];

	if ((*x)->nr_used || (*x)->owned)
		return;
	free(*x);
	*x = NULL;
	p->bytes -= sizeof(**x);
	p->zone[nid].nr_ext--;
	if (p->zone[nid].fill == i)
		p->zone[nid].fill = POOL_NONE;
}

static struct pageblock *find_pb(const struct pool *p, uint32_t frame, uint32_t *off)
{
	uint32_t f = frame % p->zone_frames;
	const struct pool_extent *x;

	if (frame >= pool_nr_frames(p))
		return NULL;
	x = p->zone[frame / p->zone_frames].ext[f / POOL_EXT_FRAMES];
	*off = f % POOL_PB_FRAMES;
	return x ? x->pb[f % POOL_EXT_FRAMES / POOL_PB_FRAMES] : NULL;
}

bool pool_is_used(const struct pool *p, uint32_t frame)
{
	uint32_t off;
	struct pageblock *pb = find_pb(p, frame, &off);

	return pb && (pb->used[off / 64] >> (off % 64) & 1);
}

uint32_t pool_node(const struct pool *p, uint32_t frame)
{
	uint32_t off;
	struct pageblock *pb = find_pb(p, frame, &off);

	return pb && (pb->used[off / 64] >> (off % 64) & 1) ? pb->node[off] : POOL_NONE;
}

void pool_set_node(struct pool *p, uint32_t frame, uint32_t node)
{
	uint32_t off;
	struct pageblock *pb = find_pb(p, frame, &off);

	assert(pb);
	pb->node[off] = node;
}

/* Take frame f of the zone (relative number), known to be free. False: no memory. */
static bool take(struct pool *p, int nid, uint32_t f)
{
	uint32_t i = f / POOL_EXT_FRAMES, off = f % POOL_PB_FRAMES;
	struct pool_extent *x = ext_get(p, nid, i);
	struct pageblock **pb;

	if (!x)
		return false;
	pb = &x->pb[f % POOL_EXT_FRAMES / POOL_PB_FRAMES];
	if (!*pb) {
		*pb = calloc(1, sizeof(**pb));
		if (!*pb) {
			ext_put(p, nid, i);
			return false;
		}
		(*pb)->nr_free = POOL_PB_FRAMES;
		(*pb)->nid = nid;
		p->bytes += sizeof(**pb);
	}
	(*pb)->used[off / 64] |= 1ull << (off % 64);
	(*pb)->node[off] = POOL_NONE;
	(*pb)->nr_free--;
	x->nr_used++;
	p->nr_used++;
	return true;
}

void pool_free(struct pool *p, uint32_t frame)
{
	uint32_t f = frame % p->zone_frames, off = f % POOL_PB_FRAMES;
	uint32_t b = f % POOL_EXT_FRAMES / POOL_PB_FRAMES;
	int nid = pool_nid(p, frame);
	struct pool_extent *x;

	assert(pool_is_used(p, frame));
	x = p->zone[nid].ext[f / POOL_EXT_FRAMES];
	x->pb[b]->used[off / 64] &= ~(1ull << (off % 64));
	x->pb[b]->nr_free++;
	x->nr_used--;
	p->nr_used--;
	if (b < x->hint)
		x->hint = b;
	if (x->pb[b]->nr_free == POOL_PB_FRAMES) {
		free(x->pb[b]);
		x->pb[b] = NULL;
		p->bytes -= sizeof(struct pageblock);
	}
	ext_put(p, nid, f / POOL_EXT_FRAMES);
}

/* Lowest free frame (relative to the zone) of extent i, which has one. */
static uint32_t ext_first_free(struct pool_extent *x, uint32_t i)
{
	uint32_t b = x ? x->hint : 0, w;

	for (; x && x->pb[b] && !x->pb[b]->nr_free; b++)
		x->hint = b + 1;
	if (x && x->pb[b])
		for (w = 0; w < POOL_PB_FRAMES / 64; w++)
			if (~x->pb[b]->used[w])
				return i * POOL_EXT_FRAMES + b * POOL_PB_FRAMES + w * 64 +
				       (uint32_t)__builtin_ctzll(~x->pb[b]->used[w]);
	return i * POOL_EXT_FRAMES + b * POOL_PB_FRAMES;
}

static bool ext_has_room(const struct pool *p, const struct pool_zone *z, uint32_t i)
{
	return !z->ext[i] || z->ext[i]->nr_used < ext_frames(p, i);
}

/* An extent for scattered frames: the present one, a shared or free one, in need a window. */
static uint32_t pick_fill(struct pool *p, int nid)
{
	struct pool_zone *z = &p->zone[nid];
	uint32_t i, empty = POOL_NONE, window = POOL_NONE;

	if (z->fill != POOL_NONE && ext_has_room(p, z, z->fill))
		return z->fill;
	for (i = 0; i < p->nr_ext; i++) {
		if (!z->ext[i]) {
			if (empty == POOL_NONE)
				empty = i;
		} else if (ext_has_room(p, z, i)) {
			if (!z->ext[i]->owned)
				return z->fill = i;
			if (window == POOL_NONE)
				window = i;
		}
	}
	if (empty != POOL_NONE)
		return z->fill = empty;
	return window;
}

static bool usable(const struct pool *p, int nid, uint32_t frame)
{
	return frame < pool_nr_frames(p) && pool_nid(p, frame) == nid && !pool_is_used(p, frame);
}

uint32_t pool_alloc(struct pool *p, int nid, uint32_t want, uint32_t window)
{
	uint32_t base = (uint32_t)nid * p->zone_frames, f, i;

	if (p->max_frames && p->nr_used >= p->max_frames)
		return POOL_NONE;
	if (usable(p, nid, want)) {
		f = want - base;
	} else if (usable(p, nid, window)) {
		f = window - base;
	} else {
		i = pick_fill(p, nid);
		if (i == POOL_NONE)
			return POOL_NONE;
		f = ext_first_free(p->zone[nid].ext[i], i);
	}
	return take(p, nid, f) ? base + f : POOL_NONE;
}

uint32_t pool_window_get(struct pool *p, int nid)
{
	struct pool_zone *z = &p->zone[nid];
	struct pool_extent *x;
	uint32_t n, i;

	for (n = 0; z->nr_ext < p->nr_ext && n < p->nr_ext; n++) {
		i = z->next;
		z->next = z->next + 1 < p->nr_ext ? z->next + 1 : 0;
		if (z->ext[i] || i == z->fill)
			continue;
		x = ext_get(p, nid, i);
		if (!x)
			return POOL_NONE;
		x->owned = true;
		return (uint32_t)nid * p->zone_frames + i * POOL_EXT_FRAMES;
	}
	return POOL_NONE;
}

void pool_window_put(struct pool *p, uint32_t first_frame)
{
	uint32_t i = first_frame % p->zone_frames / POOL_EXT_FRAMES;
	int nid = pool_nid(p, first_frame);

	assert(p->zone[nid].ext[i] && p->zone[nid].ext[i]->owned);
	p->zone[nid].ext[i]->owned = false;
	ext_put(p, nid, i);
}

static int check_ext(const struct pool_extent *x, int nid, uint64_t *used)
{
	uint32_t b, w, in_ext = 0;

	for (b = 0; b < POOL_EXT_PBS; b++) {
		uint32_t set = 0;

		if (!x->pb[b])
			continue;
		if (b < x->hint && x->pb[b]->nr_free)
			return -1;
		for (w = 0; w < POOL_PB_FRAMES / 64; w++)
			set += (uint32_t)__builtin_popcountll(x->pb[b]->used[w]);
		if (!set || set + x->pb[b]->nr_free != POOL_PB_FRAMES || x->pb[b]->nid != nid)
			return -1;
		in_ext += set;
	}
	*used += in_ext;
	return in_ext == x->nr_used && (in_ext || x->owned) ? 0 : -1;
}

int pool_check(const struct pool *p)
{
	uint64_t used = 0;
	uint32_t i;
	int z;

	for (z = 0; z < p->nr_zones; z++)
		for (i = 0; i < p->nr_ext; i++)
			if (p->zone[z].ext[i] && check_ext(p->zone[z].ext[i], z, &used))
				return -1;
	return used == p->nr_used && (!p->max_frames || used <= p->max_frames) ? 0 : -1;
}
