/* SPDX-License-Identifier: MIT */
/* cache.c - see cache.h. */
#include "pool/cache.h"

#include <string.h>

#include "pool/choice.h"

static struct pageblock *block_of(const struct zone *z, uint32_t f)
{
	return zone_pageblock(z, f / PAGEBLOCK_FRAMES);
}

static void put_state(const struct zone *z, uint32_t f, enum pool_state s)
{
	__atomic_store_n(&block_of(z, f)->state[f % PAGEBLOCK_FRAMES], (uint8_t)s,
			 __ATOMIC_RELAXED);
}

/* Put frames in, so that the lowest number goes out first. */
static void refill(struct zone *z, struct pool_cache *c) NEEDS(c->lock)
{
	uint32_t v[POOL_CACHE_BATCH], nr;

	lock_take(&z->lock);
	nr = choice_batch(z, v);
	lock_give(&z->lock);
	while (nr)
		c->frame[c->nr++] = v[--nr];
}

/* The `nr` frames that came first go to the zone. */
static void drain(struct zone *z, struct pool_cache *c, uint32_t nr) NEEDS(c->lock)
{
	lock_take(&z->lock);
	for (uint32_t i = 0; i < nr; i++)
		zone_give(z, block_of(z, c->frame[i]), c->frame[i] % PAGEBLOCK_FRAMES, 1);
	lock_give(&z->lock);
	c->nr -= nr;
	memmove(c->frame, c->frame + nr, c->nr * sizeof(*c->frame));
}

uint32_t cache_alloc(struct zone *z, uint32_t cache)
{
	struct pool_cache *c = &z->cache[cache];
	uint32_t f = POOL_NONE;

	lock_take(&c->lock);
	if (!c->nr)
		refill(z, c);
	if (c->nr) {
		f = c->frame[--c->nr];
		block_of(z, f)->word[f % PAGEBLOCK_FRAMES] = POOL_NONE;
		put_state(z, f, POOL_USED);
	}
	lock_give(&c->lock);
	return f;
}

bool cache_take(struct zone *z, uint32_t cache, uint32_t f)
{
	struct pool_cache *c = &z->cache[cache];
	uint32_t i;
	bool found;

	lock_take(&c->lock);
	for (i = c->nr; i && c->frame[i - 1] != f; i--)
		;
	found = i;
	if (found) {
		memmove(c->frame + i - 1, c->frame + i, (c->nr - i) * sizeof(*c->frame));
		c->nr--;
		block_of(z, f)->word[f % PAGEBLOCK_FRAMES] = POOL_NONE;
		put_state(z, f, POOL_USED);
	}
	lock_give(&c->lock);
	return found;
}

/* Does a frame of it go back to the zone at once? The caller has a frame in it. */
static bool is_special(const struct pageblock *pb)
{
	return pb->isolated || __atomic_load_n(&pb->window, __ATOMIC_RELAXED) ||
	       __atomic_load_n(&pb->large, __ATOMIC_RELAXED);
}

bool cache_give(struct zone *z, uint32_t cache, uint32_t f)
{
	struct pool_cache *c = &z->cache[cache];
	const struct pageblock *pb = block_of(z, f);
	uint32_t off = f % PAGEBLOCK_FRAMES;
	bool taken = false;

	/*
	 * Part of a run, retired, or unable to move: the zone has to know. Whether a run goes on in
	 * the next pageblock can be seen under the zone's lock only.
	 */
	if (pb->state[off] != POOL_USED || off + 1 == PAGEBLOCK_FRAMES ||
	    __atomic_load_n(&pb->state[off + 1], __ATOMIC_RELAXED) & POOL_TAIL)
		return false;
	lock_take(&c->lock);
	if (!is_special(pb)) {
		if (c->nr == POOL_CACHE_FRAMES)
			drain(z, c, POOL_CACHE_BATCH);
		put_state(z, f, POOL_CACHED);
		c->frame[c->nr++] = f;
		taken = true;
	}
	lock_give(&c->lock);
	return taken;
}

void cache_drain(struct zone *z, uint32_t cache)
{
	struct pool_cache *c = &z->cache[cache];

	lock_take(&c->lock);
	if (c->nr)
		drain(z, c, c->nr);
	lock_give(&c->lock);
}

void cache_purge(struct zone *z, uint32_t first, uint32_t end)
{
	for (uint32_t i = 0; i < z->nr_caches; i++) {
		struct pool_cache *c = &z->cache[i];
		uint32_t kept = 0;

		for (uint32_t j = 0; j < c->nr; j++) {
			uint32_t f = c->frame[j];

			if (f < first || f >= end)
				c->frame[kept++] = f;
			else
				zone_give(z, block_of(z, f), f % PAGEBLOCK_FRAMES, 1);
		}
		c->nr = kept;
	}
}

uint64_t cache_count(struct zone *z, uint64_t nr[POOL_TYPES])
{
	uint64_t all = 0;

	memset(nr, 0, POOL_TYPES * sizeof(*nr));
	for (uint32_t i = 0; i < z->nr_caches; i++) {
		all += z->cache[i].nr;
		for (uint32_t j = 0; j < z->cache[i].nr; j++)
			nr[block_of(z, z->cache[i].frame[j])->type]++;
	}
	return all;
}
