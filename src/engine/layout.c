/* SPDX-License-Identifier: MIT */
/*
 * mm_slot.c - clients: their life, and the frame numbers laid out for their memory.
 *
 * A client is in the engine's list from engine_mm_new() to engine_mm_exit(). Who scans finds it
 * there under the lock and takes a reference that keeps the object, and the client behind it,
 * usable after the exit; there is then nothing left in it to find.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "engine/layout.h"
#include "engine/core.h"
#include "engine/mm.h"
#include "engine/page.h"

#define WINDOW_BYTES ((uint64_t)EXTENT_FRAMES * KSM_PAGE_SIZE)
#define WINDOW_NID_BITS 6 /* up to 64 nodes */
/* --- windows --- */

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

static uint32_t layout_window(struct mm_slot *mm, uint64_t pn, int nid)
{
	uint32_t key = (uint32_t)(pn / EXTENT_FRAMES) << WINDOW_NID_BITS | (uint32_t)nid;
	uint32_t i = window_index(mm, key), frame;
	struct window *w;

	if (i == mm->nr_windows || mm->window[i].key != key) {
		frame = pool_extent_reserve(&mm->e->pool, nid);
		if (frame == POOL_NONE)
			return POOL_NONE;
		w = realloc(mm->window, (mm->nr_windows + 1) * sizeof(*w));
		if (!w) {
			pool_extent_release(&mm->e->pool, frame);
			return POOL_NONE;
		}
		mm->window = w;
		memmove(w + i + 1, w + i, (mm->nr_windows - i) * sizeof(*w));
		w[i] = (struct window){ key, frame };
		mm->nr_windows++;
		count_bytes(mm->e, sizeof(*w));
	}
	return mm->window[i].frame + (uint32_t)(pn % EXTENT_FRAMES);
}

/* Give back the windows of stretches in [start, end) that no live region reaches into any more. */
void layout_trim(struct mm_slot *mm, uint64_t start, uint64_t end)
{
	uint32_t from = window_index(mm, (uint32_t)(start / WINDOW_BYTES) << WINDOW_NID_BITS);
	uint32_t i, kept = from;

	for (i = from; i < mm->nr_windows; i++) {
		uint64_t s = (uint64_t)(mm->window[i].key >> WINDOW_NID_BITS) * WINDOW_BYTES;
		uint32_t r = region_index(mm->regions, s);

		if (s >= end ||
		    (r < mm->regions->nr && mm->regions->r[r]->at.start < s + WINDOW_BYTES))
			mm->window[kept++] = mm->window[i];
		else
			pool_extent_release(&mm->e->pool, mm->window[i].frame);
	}
	count_bytes(mm->e, -(int64_t)((mm->nr_windows - kept) * sizeof(*mm->window)));
	mm->nr_windows = kept;
	if (!kept) {
		free(mm->window);
		mm->window = NULL;
	}
}

/*
 * Best frame: next in the partner's run, else in this page's, else its place in the window. In that of
 * the older client, so that it does not matter which of the two is looked at when.
 */
uint32_t layout_frame(struct engine *e, uint32_t bi, unsigned int slot, uint32_t partner, int nid)
{
	const struct rmap_block *b = rmap_block(e, bi), *p = rmap_block(e, partner / BLOCK_PAGES);
	uint32_t want = page_frame_after_left(e, partner / BLOCK_PAGES, partner % BLOCK_PAGES),
		 window;

	if (want == POOL_NONE || want >= pool_nr_frames(&e->pool) ||
	    pool_nid(&e->pool, want) != nid || pool_is_used(&e->pool, want))
		want = page_frame_after_left(e, bi, slot);
	if (block_mm(p)->serial < block_mm(b)->serial) {
		b = p;
		slot = partner % BLOCK_PAGES;
	}
	window = layout_window(block_mm(b), block_pn(b, slot), nid);
	return pool_alloc(&e->pool, nid, want, window);
}
