/* SPDX-License-Identifier: MIT */
/*
 * folio.c - memory of the arena that members have made: huge pages, and pages where no frame is.
 *
 * A member of a domain maps the arena and reads what it likes. The kernel lets it do two things
 * with that which nobody can forbid. MADV_COLLAPSE makes one huge page of a pageblock. A load from
 * a place where there is no frame makes a page of zeros there.
 *
 * A page of a frame that is given back may still be on its way somewhere, in a pipe or a socket.
 * The kernel takes a small page out of the arena and leaves it to whoever refers to it. Of a huge
 * page that anybody refers to it cannot take one, and writes zeros over the bytes instead. So a
 * frame is not given back while it lies in a huge page, unless the whole pageblock is.
 *
 * A look when the grace period is over is early enough. The kernel makes a huge page only of pages
 * that nobody refers to. Nobody who can be hurt maps the frame any more, so nobody refers to its
 * page who did not at the time of the look. So if the page is small then, and somebody refers to
 * it, it stays small; and if nobody does, no byte is lost.
 *
 * What is to be lost anyway may be given back at any time: places without a frame. In a huge page
 * that nobody refers to it makes the kernel split it.
 */
#include "engine/folio.h"

#include "engine/settle.h"

#define SWEEP_FRAMES (16u * PAGEBLOCK_FRAMES) /* punched at a time: some milliseconds at most */

static bool is_bare(const struct pageblock *pb, uint32_t off)
{
	enum pool_state s = pageblock_state(pb, off);

	if (pageblock_is_claimed(pb, off))
		return true;
	return s != POOL_USED && s != POOL_RETIRED && s != POOL_HELD;
}

/* First place without a frame from `off` on; pb->nr: there is none. */
static uint32_t next_bare(const struct pageblock *pb, uint32_t off)
{
	while (off < pb->nr && !is_bare(pb, off))
		off++;
	return off;
}

/* `first`: number of the pageblock's first frame. */
static void punch_bare(struct engine *e, const struct pageblock *pb, uint32_t first) NEEDS(e->lock)
{
	for (uint32_t off = next_bare(pb, 0), to; off < pb->nr; off = next_bare(pb, to)) {
		for (to = off + 1; to < pb->nr && is_bare(pb, to); to++)
			;
		e->ops->frame_free(e->arena, first + off, to - off);
	}
}

static void look(struct engine *e, uint32_t frame) NEEDS(e->lock)
{
	const struct pageblock *pb = pool_pageblock(&e->pool, frame);
	uint32_t first = frame - frame % e->pool.zone_frames % PAGEBLOCK_FRAMES;
	uint32_t off = next_bare(pb, 0);
	uint32_t bare = off < pb->nr ? first + off : POOL_NONE;

	if (pb->large || pb->nr < PAGEBLOCK_FRAMES || !e->ops->frame_is_huge(e->arena, frame, bare))
		return;
	if (bare != POOL_NONE) {
		punch_bare(e, pb, first);
		if (!e->ops->frame_is_huge(e->arena, frame, POOL_NONE))
			return;
	}
	pool_set_large(&e->pool, first);
}

void folio_look(struct engine *e, const uint32_t *v, uint32_t nr)
{
	const struct pageblock *last = NULL, *pb;

	if (!e->ops->frame_is_huge)
		return;
	for (uint32_t i = 0; i < nr; i++) {
		pb = pool_pageblock(&e->pool, v[i]);
		if (pb != last)
			look(e, v[i]);
		last = pb;
	}
}

uint64_t engine_nr_in_memory(struct engine *e)
{
	uint64_t nr;

	engine_lock(e);
	nr = (uint64_t)e->pool.nr_used + e->pool.nr_held;
	engine_unlock(e);
	return nr;
}

uint32_t engine_sweep(struct engine *e, uint32_t frame)
{
	uint32_t end = (uint32_t)pool_nr_frames(&e->pool), to;
	const struct pageblock *pb;

	engine_lock(e);
	pb = pool_pageblock(&e->pool, frame);
	if (pb) {
		to = frame + pb->nr;
		punch_bare(e, pb, frame);
	} else {
		to = pool_next_present(&e->pool, frame);
		to = to == POOL_NONE ? end : to;
		if (to - frame > SWEEP_FRAMES)
			to = frame + SWEEP_FRAMES;
		e->ops->frame_free(e->arena, frame, to - frame);
	}
	engine_unlock(e);
	return to < end ? to : POOL_NONE;
}
