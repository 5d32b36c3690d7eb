/* SPDX-License-Identifier: MIT */
/*
 * epoch.c - the grace periods of frames.
 *
 * A frame may be given back only when no process can have it mapped: a hole under a mapping reads
 * as zeros, silently. The engine sees sites; it does not see processes forked from a client. So a
 * frame that loses its last site is retired into the current epoch (settle.c). It is given back
 * when the daemon reports that no process from that epoch, or an older one, is left. A frame that
 * no client was ever told of cannot be mapped and is given back at once.
 */
#include <stdlib.h>

#include "engine/core.h"
#include "engine/folio.h"
#include "engine/settle.h"

uint64_t engine_epoch(struct engine *e)
{
	uint64_t epoch;

	engine_lock(e);
	epoch = e->epoch;
	engine_unlock(e);
	return epoch;
}

uint64_t engine_epoch_advance(struct engine *e)
{
	uint64_t epoch;

	engine_lock(e);
	epoch = ++e->epoch;
	engine_unlock(e);
	return epoch;
}

static int cmp_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* Give frames back in as few calls as possible, those of one zone together. */
static void free_frames(struct engine *e, uint32_t *v, uint32_t nr) NEEDS(e->lock)
{
	qsort(v, nr, sizeof(*v), cmp_u32);
	folio_look(e, v, nr);
	for (uint32_t from = 0, i; from < nr; from = i) {
		for (i = from + 1; i < nr && v[i] == v[i - 1] + 1 &&
				   pool_nid(&e->pool, v[i]) == pool_nid(&e->pool, v[from]);
		     i++)
			;
		pool_free(&e->pool, POOL_NO_CACHE, v[from], i - from, true);
	}
}

uint64_t engine_epoch_free(struct engine *e, uint64_t upto)
{
	uint32_t v[PAGEBLOCK_FRAMES], nr;
	uint64_t all = 0;

	engine_lock(e);
	do {
		for (nr = 0; nr < PAGEBLOCK_FRAMES && stable_reap(&e->stable, upto, &v[nr]); nr++)
			;
		free_frames(e, v, nr);
		all += nr;
	} while (nr == PAGEBLOCK_FRAMES);
	engine_unlock(e);
	return all;
}

uint64_t engine_nr_retired(struct engine *e)
{
	uint64_t nr;

	engine_lock(e);
	nr = e->stable.nr_retired;
	engine_unlock(e);
	return nr;
}
