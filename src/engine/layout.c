/* SPDX-License-Identifier: MIT */
/*
 * layout.c - the policy that chooses a frame number for two pages.
 *
 * Adjacent pages of a client need one mapping when they stand on adjacent frames, and one mapping
 * each when they do not; mappings are what a client runs out of. So a page gets the frame after
 * the one that the page to its left stands on, where that is free. Where it is not, the page gets
 * its place in a window: each stretch of 128 MiB of a client's addresses has an extent of the
 * pool to itself, for each NUMA node, in which page n of the stretch is frame n. Pages of a window
 * come to stand on adjacent frames in whatever order they are merged.
 *
 * Any choice is safe: the pool hands a frame out once only, and a frame far away costs mappings and
 * nothing else. What the pool does not reserve or hand out, the engine goes without.
 */
#include "engine/layout.h"

#include <stdlib.h>
#include <string.h>

#include "engine/mm.h"
#include "engine/page.h"

#define WINDOW_PAGES EXTENT_FRAMES
#define WINDOW_BYTES (WINDOW_PAGES * PAGE_BYTES)
#define WINDOW_NID_BITS 6 /* up to 64 nodes */

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

/* Reserve an extent and put it at index i. False: no extent is left, or memory is short. */
static bool window_add(struct mm_slot *mm, uint32_t i, uint32_t key, int nid) NEEDS(mm->e->lock)
{
	uint32_t frame = pool_extent_reserve(&mm->e->pool, nid);
	struct window *w;

	if (frame == POOL_NONE)
		return false;
	w = realloc(mm->window, (mm->nr_windows + 1) * sizeof(*w));
	if (!w) {
		pool_extent_release(&mm->e->pool, frame);
		return false;
	}
	mm->window = w;
	memmove(w + i + 1, w + i, (mm->nr_windows - i) * sizeof(*w));
	w[i] = (struct window){ key, frame };
	mm->nr_windows++;
	count_bytes(mm->e, sizeof(*w));
	return true;
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

void layout_trim(struct mm_slot *mm, struct span at)
{
	uint32_t kept = window_index(mm, window_key(at.start, 0));

	for (uint32_t i = kept; i < mm->nr_windows; i++) {
		const struct window *w = &mm->window[i];

		if (window_start(w) >= at.end || is_reached(mm, w))
			mm->window[kept++] = *w;
		else
			pool_extent_release(&mm->e->pool, w->frame);
	}
	count_bytes(mm->e, -(int64_t)((mm->nr_windows - kept) * sizeof(*mm->window)));
	mm->nr_windows = kept;
	if (!kept) {
		free(mm->window);
		mm->window = NULL;
	}
}

/* --- the choice --- */

/*
 * First the frame that goes on with the partner's run, then the one that goes on with this page's,
 * then the place in the window. The window is the older client's, so the outcome does not depend
 * on which of the two pages a worker reads later.
 */
uint32_t layout_frame(struct engine *e, uint32_t bi, unsigned int slot, uint32_t partner, int nid)
{
	const struct rmap_block *b = rmap_block(e, bi), *p = rmap_block(e, partner / BLOCK_PAGES);
	unsigned int pslot = partner % BLOCK_PAGES;
	uint32_t best = page_frame_after_left(e, partner / BLOCK_PAGES, pslot);
	struct mm_slot *older;
	uint64_t pn;

	if (!pool_is_free(&e->pool, nid, best))
		best = page_frame_after_left(e, bi, slot);
	if (block_mm(p)->serial < block_mm(b)->serial) {
		older = block_mm(p);
		pn = block_pn(p, pslot);
	} else {
		older = block_mm(b);
		pn = block_pn(b, slot);
	}
	mm_is_of(older, e);
	return pool_alloc(&e->pool, nid, best, place_in_window(older, pn, nid));
}
