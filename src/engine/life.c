/* SPDX-License-Identifier: MIT */
/* life.c - an engine's life. */
#include <assert.h>
#include <stdlib.h>

#include "engine/core.h"
#include "engine/across.h"
#include "engine/compact.h"
#include "engine/crowd.h"
#include "engine/drain.h"
#include "engine/hash.h"
#include "engine/migrate.h"
#include "engine/read.h"
#include "engine/steer.h"

static void punch(void *engine, uint32_t first, uint32_t nr)
{
	const struct engine *e = engine;

	e->ops->frame_free(e->arena, first, nr);
}

/* The last whole pageblocks of the zone: windows are made from below. */
static int make_reserve(struct engine *e, const struct engine_config *cfg, int nid)
{
	uint32_t nr = cfg->reserve_frames / PAGEBLOCK_FRAMES;
	uint32_t all = cfg->zone_frames / PAGEBLOCK_FRAMES;
	struct pool_culprit who;

	return pool_reserve(&e->pool,
			    (uint32_t)nid * cfg->zone_frames + (all - nr) * PAGEBLOCK_FRAMES, nr,
			    &who);
}

static int make_pool(struct engine *e, const struct engine_config *cfg)
{
	static const struct pool_ops ops = { .punch = punch };
	const struct pool_config pool = {
		.ops = &ops,
		.ctx = e,
		.nr_zones = cfg->nr_nodes,
		.zone_frames = cfg->zone_frames,
		.nr_caches = ENGINE_WORKERS,
		.guard = cfg->guard_frames,
	};

	int err = pool_init(&e->pool, &pool);

	for (int nid = 0; !err && cfg->reserve_frames && nid < cfg->nr_nodes; nid++)
		err = make_reserve(e, cfg, nid);
	return err;
}

/* The parts that need memory. 0 or -1; engine_free_parts() takes any that are there. */
static int engine_make_parts(struct engine *e, const struct engine_config *cfg)
{
	slab_init(&e->blocks, sizeof(struct rmap_block), RMAP_MAX_BLOCKS - 1, cfg->memory);
	if (ctree_roots_init(&e->unstable, cfg->nr_nodes, cfg->memory) ||
	    crowds_init(e, cfg->nr_nodes, cfg->memory) ||
	    stable_init(&e->stable, cfg->nr_nodes, cfg->memory) || make_pool(e, cfg))
		return -1;
	for (uint32_t i = 0; i < ENGINE_WORKERS; i++)
		e->worker[i].nid = NID_UNKNOWN;
	e->table_bytes = sizeof(*e) + 3ull * e->unstable.nr * sizeof(**e->unstable.of);
	return 0;
}

static void engine_free_parts(struct engine *e)
{
	slab_deinit(&e->blocks);
	stable_deinit(&e->stable);
	crowds_deinit(e);
	ctree_roots_deinit(&e->unstable);
	read_drop_buffers(e);
	migrate_free(e);
	drain_free(e);
	compact_free(e);
	steer_free(e);
	free(e);
}

struct engine *engine_new(const struct engine_config *cfg)
{
	static const unsigned char zeros[KSM_PAGE_SIZE];
	struct engine *e;

	if (cfg->nr_nodes < 1 || cfg->nr_nodes > ENGINE_NODES)
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
	for (int nid = 0; nid < cfg->nr_nodes; nid++)
		e->home[nid] = (uint8_t)nid;
	e->hash_seed = cfg->hash_seed;
	e->zero_hash = page_hash(zeros, e->hash_seed);
	e->epoch = 1;
	e->one_client = cfg->one_client;
	e->crowds.sharers = knob_get(e->knobs, KNOB_MIN_SHARERS);
	e->crowds.delay = knob_get(e->knobs, KNOB_MERGE_DELAY_MILLISECS);
	e->crowds.sweep = UINT32_MAX;
	for (int a = 0; a < ENGINE_NODES; a++)
		for (int b = 0; b < ENGINE_NODES; b++)
			e->distance[a][b] = cfg->distance ? cfg->distance[a][b] :
					    a == b        ? POLICY_HERE :
							    2 * POLICY_HERE;
	e->stable.zone_frames = cfg->zone_frames;
	across_init(e);
	CDS_INIT_LIST_HEAD(&e->mms);
	lock_init(&e->lock);
	return e;
}

void engine_free(struct engine *e)
{
	/* The last region may free the last client: callbacks that queue callbacks. */
	rcu_barrier();
	rcu_barrier();
	engine_free_quiet(e);
}

void engine_free_quiet(struct engine *e)
{
	assert(__atomic_load_n(&e->nr_mms, __ATOMIC_ACQUIRE) == 0);
	pool_deinit(&e->pool);
	lock_deinit(&e->lock);
	engine_free_parts(e);
}
