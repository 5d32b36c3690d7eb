/* SPDX-License-Identifier: MIT */
/*
 * slab.h - objects of one size, named by 32-bit indices that stay valid while the object lives.
 *
 * An index takes half the room of a pointer. Objects come in chunks of 64, so growth never moves
 * one, and a chunk whose last object goes is freed. slab_alloc() hands out the lowest free index,
 * which keeps the chunks dense. A slab takes no lock: the caller lets one thread at a time into it.
 *
 * Objects can be kept in several places, NUMA nodes for example, if whoever owns the slab hands in
 * memory that lies there. Then all objects of a chunk are in one place, and the lowest free index
 * is that of the place. A slab on malloc() has one place, whatever is asked for.
 */
#ifndef KSM_SLAB_H
#define KSM_SLAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bits.h"

#define SLAB_NIL 0x7fffffffu /* no object */
#define SLAB_CHUNK BITS_PER_WORD
#define SLAB_PLACES 64

/* Where chunks come from, instead of malloc(). The slab's callers call it. */
struct slab_memory {
	/* `bytes`, aligned to 8, in place `place` if there is room; NULL: no memory. */
	void *(*get)(void *arg, size_t bytes, unsigned int place);
	void (*put)(void *arg, void *p, size_t bytes);
	void *arg;
};

struct slab_chunk {
	uint64_t used; /* bit per object; never 0 */
	_Alignas(8) unsigned char obj[];
};

/*
 * Invariants: nr is the number of bits set in all chunks, bytes what the chunks and the directory
 * take, and the last of the nr_chunks entries is not NULL. No entry below any hint is NULL, so
 * hints stay below nr_chunks when that shrinks.
 */
struct slab {
	struct slab_chunk **chunk;  /* the directory; NULL where a chunk was freed */
	uint8_t *place;             /* of each chunk; NULL without `memory`: all are in place 0 */
	uint32_t nr_chunks, cap;    /* entries in use and allocated */
	uint32_t hint[SLAB_PLACES]; /* none of the place below has room */
	const struct slab_memory *memory; /* NULL: malloc() */
	uint32_t obj_size;
	uint32_t max;   /* most objects, at most SLAB_NIL */
	uint32_t nr;    /* objects in use */
	uint64_t bytes; /* memory held */
};

/* Rounds max down to a multiple of SLAB_CHUNK. Allocates nothing. `memory` outlives the slab. */
void slab_init(struct slab *s, size_t obj_size, uint32_t max, const struct slab_memory *memory);
/* The caller has freed all objects. */
void slab_deinit(struct slab *s);
/*
 * Index of an object of zeros in that place, below SLAB_PLACES, or SLAB_NIL (no memory, or max
 * reached).
 */
uint32_t slab_alloc(struct slab *s, unsigned int place);
/* Object i must be in use. */
void slab_free(struct slab *s, uint32_t i);

/* Object i, which must be in use. obj_size as in slab_init(): constants are faster than fields. */
static inline void *slab_get(const struct slab *s, uint32_t i, size_t obj_size)
{
	return s->chunk[i / SLAB_CHUNK]->obj + (i % SLAB_CHUNK) * obj_size;
}

/* Object i, which is in use, is in another place than `place`. Never so on malloc(). */
static inline bool slab_is_elsewhere(const struct slab *s, uint32_t i, unsigned int place)
{
	return s->place && s->place[i / SLAB_CHUNK] != place;
}

/* Any index is accepted. */
static inline bool slab_is_used(const struct slab *s, uint32_t i)
{
	return i / SLAB_CHUNK < s->nr_chunks && s->chunk[i / SLAB_CHUNK] &&
	       bits_test(&s->chunk[i / SLAB_CHUNK]->used, i % SLAB_CHUNK);
}

#endif
