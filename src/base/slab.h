/* SPDX-License-Identifier: MIT */
/*
 * slab.h - objects of one size, named by 32-bit indices that stay valid while the object lives.
 *
 * Objects come in chunks of 64, so growth never moves one, and a chunk whose last object goes is
 * given back. The lowest free index is handed out first, which keeps the chunks dense.
 * The owner's lock (the engine lock) covers everything here.
 */
#ifndef KSM_SLAB_H
#define KSM_SLAB_H

#include <stddef.h>
#include <stdint.h>

#define SLAB_NIL 0x7fffffffu
#define SLAB_CHUNK 64u

struct slab_chunk {
	uint64_t used; /* bit per object */
	_Alignas(8) unsigned char obj[];
};

struct slab {
	struct slab_chunk **chunk; /* NULL where a chunk was given back */
	uint32_t nr_chunks, cap;   /* entries in use / allocated */
	uint32_t hint;             /* no chunk below this one has a free object */
	uint32_t obj_size;
	uint32_t max;   /* objects, at most SLAB_NIL */
	uint32_t nr;    /* objects in use */
	uint64_t bytes; /* memory held */
};

void slab_init(struct slab *s, size_t obj_size, uint32_t max);
/* All objects must have been freed. */
void slab_deinit(struct slab *s);
/* A zeroed object's index, or SLAB_NIL (no memory, or max reached). */
uint32_t slab_alloc(struct slab *s);
void slab_free(struct slab *s, uint32_t i);

static inline void *slab_get(const struct slab *s, uint32_t i, size_t obj_size)
{
	return s->chunk[i / SLAB_CHUNK]->obj + (i % SLAB_CHUNK) * obj_size;
}

static inline int slab_is_used(const struct slab *s, uint32_t i)
{
	return i / SLAB_CHUNK < s->nr_chunks && s->chunk[i / SLAB_CHUNK] &&
	       (s->chunk[i / SLAB_CHUNK]->used >> (i % SLAB_CHUNK) & 1);
}

#endif
