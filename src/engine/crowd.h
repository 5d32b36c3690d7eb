/* SPDX-License-Identifier: MIT */
/*
 * crowd.h - equal pages that wait: for processes that hold the same, or for a random time.
 *
 * These functions keep the records. page.c calls those that take a page in or out, merge.c and
 * settle.c decide what becomes of a crowd.
 */
#ifndef KSM_CROWD_H
#define KSM_CROWD_H

#include "engine/core.h"

/* Most crowds: their numbers and their times share 64 bits. Each holds at least a page. */
#define CROWD_MAX (1u << 24)

/* 0 or -ENOMEM */
int crowds_init(struct engine *e, int nr_nodes, const struct slab_memory *memory);
void crowds_deinit(struct engine *e);

static inline struct crowd *crowd_at(const struct engine *e, uint32_t c)
{
	return slab_get(&e->crowds.slab, c, sizeof(struct crowd));
}

/* Must the contents of two equal pages perhaps wait before they get a frame? */
static inline bool crowds_wanted(const struct engine *e)
{
	return (!e->one_client && knob_get(e->knobs, KNOB_MIN_SHARERS) > 1) ||
	       knob_get(e->knobs, KNOB_MERGE_DELAY_MILLISECS) > 0;
}

/* The crowd of these contents, or NIL. */
uint32_t crowd_find(struct engine *e, int root, uint64_t hash) NEEDS(e->lock);
/* A new one without pages, which goes when the lock is let go if it gets none. NIL: no memory. */
uint32_t crowd_new(struct engine *e, int root, uint64_t hash) NEEDS(e->lock);
/* Can a page of this family join? */
bool crowd_takes(const struct engine *e, uint32_t c, uint64_t family) NEEDS(e->lock);
/* For page.c: the item, whose hash is the crowd's, joins or leaves. */
void crowd_add(struct engine *e, uint32_t c, uint32_t item) NEEDS(e->lock);
void crowd_del(struct engine *e, uint32_t item) NEEDS(e->lock);
/* What leads to the first item of its family in the crowd of that item. */
uint32_t *crowd_first(struct engine *e, uint32_t item) NEEDS(e->lock);
/* An item of the crowd, not `but`, of another family if there is one. NIL: there is none. */
uint32_t crowd_item(const struct engine *e, uint32_t c, uint32_t but) NEEDS(e->lock);
/* May its contents have a frame: do enough families hold them, or have they one already? */
bool crowd_enough(struct engine *e, uint32_t c) NEEDS(e->lock);

/* A page came or went, or its time: settle.c looks at the crowd before the lock is let go. */
void crowd_touch(struct engine *e, uint32_t c) NEEDS(e->lock);
/* A crowd that was touched, taken off the list; NIL: none. */
uint32_t crowd_next_touched(struct engine *e) NEEDS(e->lock);
/* Its random time begins. */
void crowd_start_wait(struct engine *e, uint32_t c) NEEDS(e->lock);
/* Its contents are to be merged from now on; or it has to wait all over again. */
void crowd_set_ripe(struct engine *e, uint32_t c) NEEDS(e->lock);
void crowd_set_raw(struct engine *e, uint32_t c) NEEDS(e->lock);
/* A crowd whose time has come, which is ripe now; NIL: none. */
uint32_t crowd_next_due(struct engine *e) NEEDS(e->lock);
/* It must have no pages. */
void crowd_free(struct engine *e, uint32_t c) NEEDS(e->lock);

/* Verify all and recount. 0, or -1 with a reason in *why. */
int crowds_check(struct engine *e, const char **why) NEEDS(e->lock);

#endif
