/* SPDX-License-Identifier: MIT */
/*
 * engine.c - an engine's life, and the grace periods of its frames.
 *
 * A frame may be given back only when no process can have it mapped: a hole under a mapping reads
 * as zeros, silently. What the engine can see are sites; what it cannot are processes forked from
 * a client. So a frame that loses its last site is retired into the current epoch and given back
 * when the daemon reports that nobody from that epoch, or an older one, is left. A frame that no
 * client was ever told of cannot be mapped and is given back at once.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/core.h"
#include "engine/hash.h"
#include "engine/scan.h"
#include "engine/settle.h"

/* The parts that need memory; engine_free_parts() takes any that are there. */
static int engine_make_parts(struct engine *e, const struct engine_config *cfg)
{
	uint32_t i, nr = (uint32_t)cfg->nr_nodes * CTREE_SHARDS;

	slab_init(&e->blocks, sizeof(struct rmap_block), RMAP_MAX_BLOCKS - 1);
	e->unstable_root = malloc(nr * sizeof(*e->unstable_root));
	if (!e->unstable_root || stable_init(&e->stable, cfg->nr_nodes) ||
	    pool_init(&e->pool, cfg->nr_nodes, cfg->zone_frames, cfg->max_frames))
		return -ENOMEM;
	for (i = 0; i < nr; i++)
		e->unstable_root[i] = NIL;
	e->table_bytes = sizeof(*e) + 2 * nr * sizeof(*e->unstable_root);
	return 0;
}

static void engine_free_parts(struct engine *e)
{
	slab_deinit(&e->blocks);
	stable_deinit(&e->stable);
	free(e->unstable_root);
	read_drop_buffers(e);
	free(e);
}

struct engine *engine_new(const struct engine_config *cfg)
{
	static const unsigned char zeros[KSM_PAGE_SIZE];
	struct engine *e;

	if (cfg->nr_nodes < 1 || cfg->nr_nodes > 64)
		return NULL;
	e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	if (engine_make_parts(e, cfg)) {
		engine_free_parts(e);
		return NULL;
	}
	e->ops = cfg->ops;
	e->arena = cfg->arena;
	e->knobs = cfg->knobs;
	e->nr_nodes = cfg->nr_nodes;
	e->hash_seed = cfg->hash_seed;
	e->zero_hash = page_hash(zeros, e->hash_seed);
	e->epoch = 1;
	e->merge_across = knob_get(e->knobs, KNOB_MERGE_ACROSS_NODES);
	CDS_INIT_LIST_HEAD(&e->mms);
	pthread_mutex_init(&e->lock, NULL);
	return e;
}

void engine_free(struct engine *e)
{
	/* The last region may free the last client: callbacks that queue callbacks. */
	rcu_barrier();
	rcu_barrier();
	assert(__atomic_load_n(&e->nr_mms, __ATOMIC_ACQUIRE) == 0);
	pool_deinit(&e->pool);
	pthread_mutex_destroy(&e->lock);
	engine_free_parts(e);
}

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

/* Give frames back in as few calls as possible. */
static void free_frames(struct engine *e, uint32_t *v, uint32_t nr)
{
	uint32_t i, from;

	qsort(v, nr, sizeof(*v), cmp_u32);
	for (from = 0; from < nr; from = i) {
		for (i = from + 1; i < nr && v[i] == v[i - 1] + 1; i++)
			;
		e->ops->frame_free(e->arena, v[from], i - from);
	}
	for (i = 0; i < nr; i++)
		pool_free(&e->pool, v[i]);
}

uint64_t engine_epoch_free(struct engine *e, uint64_t upto)
{
	uint32_t v[POOL_PB_FRAMES], nr;
	uint64_t all = 0;

	engine_lock(e);
	do {
		for (nr = 0; nr < POOL_PB_FRAMES && stable_reap(&e->stable, upto, &v[nr]); nr++)
			;
		free_frames(e, v, nr);
		all += nr;
	} while (nr == POOL_PB_FRAMES);
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
