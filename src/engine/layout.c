/* SPDX-License-Identifier: MIT */
/*
 * layout.c - the policy that chooses a frame number for two pages.
 *
 * Adjacent pages of a client need one mapping when they stand on adjacent frames, and one mapping
 * each when they do not; mappings are what a client runs out of. So a page gets the frame after
 * the one that the page to its left stands on, where that is free. Where it is not, the page gets
 * its place in a window: a stretch of 2 MiB of a client's addresses has a pageblock of the pool to
 * itself, for each NUMA node, in which page n of the stretch is frame n. Pages of a window come to
 * stand on adjacent frames in whatever order they are merged. The windows of neighbouring stretches
 * are neighbouring pageblocks where these can be had, so runs go on from one to the next.
 *
 * Any choice is safe: the pool hands a frame out once only, and a frame far away costs mappings and
 * nothing else. What the pool does not reserve or hand out, the engine goes without. Pageblocks are
 * scarce, so a window is made only for a page that has no frame to the right of another.
 */
#include "engine/layout.h"

#include <stdlib.h>
#include <string.h>

#include "engine/mm.h"
#include "engine/page.h"

#define WINDOW_NID_BITS 6    /* up to 64 nodes; 26 bits are left for addresses below 2^47 */
#define WINDOW_NEIGHBOURS 8u /* windows on either side that are looked at for a place beside */
#define WINDOW_FAR EXTENT_PAGEBLOCKS /* a window further away says nothing about this one */

/* --- windows --- */

static uint32_t window_key(uint64_t addr, int nid)
{
	return (uint32_t)(addr / WINDOW_BYTES) << WINDOW_NID_BITS | (uint32_t)nid;
}

/* First address of a window's stretch. */
static uint64_t window_start(const struct window *w)
{
	return (w->key >> WINDOW_NID_BITS) * WINDOW_BYTES;
}

/* First window whose key is not below this one: its index, or nr_windows. */
static uint32_t window_index(const struct mm_slot *mm, uint32_t key)
{
	uint32_t lo = 0, hi = mm->nr_windows;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (mm->window[mid].key >= key)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

/*
 * Where the pageblock of a window would go on with that of window `w`: its first frame, or
 * POOL_NONE if they are of different nodes or far apart, or that pageblock is there already.
 */
static uint32_t place_beside(const struct mm_slot *mm, const struct window *w, uint32_t key)
	NEEDS(mm->e->lock)
{
	int64_t apart = (int64_t)(key >> WINDOW_NID_BITS) - (int64_t)(w->key >> WINDOW_NID_BITS);
	int64_t frame = (int64_t)w->frame + apart * WINDOW_PAGES;
	int nid = (int)(key & ((1u << WINDOW_NID_BITS) - 1));

	if ((key ^ w->key) & ((1u << WINDOW_NID_BITS) - 1) || frame < 0 ||
	    apart > (int64_t)WINDOW_FAR || -apart > (int64_t)WINDOW_FAR ||
	    (uint64_t)frame >= pool_nr_frames(&mm->e->pool) ||
	    pool_nid(&mm->e->pool, (uint32_t)frame) != nid ||
	    !pool_is_absent(&mm->e->pool, (uint32_t)frame))
		return POOL_NONE;
	return (uint32_t)frame;
}

/* Where a window that is to stand at index i would go on with another, or POOL_NONE. */
static uint32_t place_beside_any(const struct mm_slot *mm, uint32_t i, uint32_t key)
	NEEDS(mm->e->lock)
{
	uint32_t frame = POOL_NONE;

	for (uint32_t d = 1; frame == POOL_NONE && d <= WINDOW_NEIGHBOURS; d++) {
		if (d <= i)
			frame = place_beside(mm, &mm->window[i - d], key);
		if (frame == POOL_NONE && i + d <= mm->nr_windows)
			frame = place_beside(mm, &mm->window[i + d - 1], key);
	}
	return frame;
}

/* Reserve a pageblock and put it at index i. False: none is left, or memory is short. */
static bool window_add(struct mm_slot *mm, uint32_t i, uint32_t key, int nid) NEEDS(mm->e->lock)
{
	uint32_t frame = pool_window_reserve(&mm->e->pool, nid, place_beside_any(mm, i, key),
					     key >> WINDOW_NID_BITS);
	struct window *w;

	if (frame == POOL_NONE) {
		mm->e->wants_pageblock |= bit64((unsigned int)nid);
		return false;
	}
	w = realloc(mm->window, (mm->nr_windows + 1) * sizeof(*w));
	if (!w) {
		pool_window_release(&mm->e->pool, frame);
		return false;
	}
	mm->window = w;
	memmove(w + i + 1, w + i, (mm->nr_windows - i) * sizeof(*w));
	w[i] = (struct window){ key, frame };
	mm->nr_windows++;
	count_bytes(mm->e, sizeof(*w));
	return true;
}

uint32_t layout_window(const struct mm_slot *mm, uint64_t pn, int nid)
{
	uint32_t key = window_key(pn * PAGE_BYTES, nid), i = window_index(mm, key);

	return i < mm->nr_windows && mm->window[i].key == key ? mm->window[i].frame : POOL_NONE;
}

uint32_t layout_new_window(struct mm_slot *mm, uint64_t pn, int nid)
{
	uint32_t key = window_key(pn * PAGE_BYTES, nid), i = window_index(mm, key), frame;
	uint64_t wants = mm->e->wants_pageblock;

	if (i == mm->nr_windows || mm->window[i].key != key) {
		if (window_add(mm, i, key, nid))
			return mm->window[i].frame;
		mm->e->wants_pageblock = wants; /* nothing need be moved for it */
		return POOL_NONE;
	}
	frame = pool_window_reserve(&mm->e->pool, nid, place_beside_any(mm, i, key),
				    key >> WINDOW_NID_BITS);
	if (frame == POOL_NONE)
		return POOL_NONE;
	pool_window_release(&mm->e->pool, mm->window[i].frame);
	mm->window[i].frame = frame;
	return frame;
}

/* Frame that a page has in its window, which is made if need be, or POOL_NONE. */
static uint32_t place_in_window(struct mm_slot *mm, uint64_t pn, int nid) NEEDS(mm->e->lock)
{
	uint32_t key = window_key(pn * PAGE_BYTES, nid), i = window_index(mm, key);

	if ((i == mm->nr_windows || mm->window[i].key != key) && !window_add(mm, i, key, nid))
		return POOL_NONE;
	return mm->window[i].frame + (uint32_t)(pn % WINDOW_PAGES);
}

/* Whether a live region reaches into the window's stretch. */
static bool is_reached(const struct mm_slot *mm, const struct window *w)
{
	uint64_t start = window_start(w);
	const struct region *r = region_on(mm->regions, region_find(mm->regions, start));

	return r && r->at.start < start + WINDOW_BYTES;
}

/* Windows [from, to) have gone. */
static void windows_remove(struct mm_slot *mm, uint32_t from, uint32_t to) NEEDS(mm->e->lock)
{
	if (from == to)
		return;
	memmove(mm->window + from, mm->window + to, (mm->nr_windows - to) * sizeof(*mm->window));
	mm->nr_windows -= to - from;
	count_bytes(mm->e, -(int64_t)((to - from) * sizeof(*mm->window)));
	if (!mm->nr_windows) {
		free(mm->window);
		mm->window = NULL;
	}
}

void layout_trim(struct mm_slot *mm, struct span at)
{
	uint32_t first = window_index(mm, window_key(at.start, 0)), kept = first, i;

	for (i = first; i < mm->nr_windows && window_start(&mm->window[i]) < at.end; i++) {
		const struct window *w = &mm->window[i];

		if (is_reached(mm, w))
			mm->window[kept++] = *w;
		else
			pool_window_release(&mm->e->pool, w->frame);
	}
	windows_remove(mm, kept, i);
}

void layout_leave(struct engine *e, uint32_t first, uint32_t end)
{
	struct mm_slot *mm;

	cds_list_for_each_entry(mm, &e->mms, list) {
		uint32_t kept = 0, i;

		mm_is_of(mm, e);
		for (i = 0; i < mm->nr_windows; i++) {
			const struct window *w = &mm->window[i];

			if (w->frame < first || w->frame >= end)
				mm->window[kept++] = *w;
		}
		windows_remove(mm, kept, i);
	}
}

/* --- the choice --- */

/*
 * First the frame that goes on with the partner's run, then the one that goes on with this page's,
 * then the place in the window. The window is the older client's, so the outcome does not depend
 * on which of the two pages a worker reads later.
 */
uint32_t layout_frame(struct engine *e, uint32_t bi, unsigned int slot, uint32_t partner, int nid,
		      uint32_t cache)
{
	const struct rmap_block *b = rmap_block(e, bi), *p = rmap_block(e, partner / BLOCK_PAGES);
	unsigned int pslot = partner % BLOCK_PAGES;
	uint32_t best = page_frame_after_left(e, partner / BLOCK_PAGES, pslot);
	struct mm_slot *older;
	uint32_t place;
	uint64_t pn;

	if (!pool_is_free(&e->pool, nid, best))
		best = page_frame_after_left(e, bi, slot);
	if (pool_is_free(&e->pool, nid, best) && !pool_is_absent(&e->pool, best))
		return pool_alloc(&e->pool, cache, nid, best, POOL_NONE);
	if (block_mm(p)->serial < block_mm(b)->serial) {
		older = block_mm(p);
		pn = block_pn(p, pslot);
	} else {
		older = block_mm(b);
		pn = block_pn(b, slot);
	}
	mm_is_of(older, e);
	place = place_in_window(older, pn, nid);
	/* A pageblock that is absent would be begun for one page: only for want of a place. */
	if (place != POOL_NONE && pool_is_absent(&e->pool, best))
		best = POOL_NONE;
	return pool_alloc(&e->pool, cache, nid, best, place);
}
