/* SPDX-License-Identifier: MIT */
/*
 * slab.c - chunks of objects, and the directory that finds them (see slab.h).
 *
 * The directory moves when it grows and the chunks never do, so a pointer to an object stays valid
 * while the object is in use.
 */
#include "base/slab.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void slab_init(struct slab *s, size_t obj_size, uint32_t max)
{
	memset(s, 0, sizeof(*s));
	s->obj_size = (uint32_t)obj_size;
	s->max = max < SLAB_NIL ? max : SLAB_NIL;
}

void slab_deinit(struct slab *s)
{
	assert(s->nr == 0);
	free(s->chunk);
	memset(s, 0, sizeof(*s));
}

static size_t chunk_bytes(const struct slab *s)
{
	return sizeof(struct slab_chunk) + (size_t)SLAB_CHUNK * s->obj_size;
}

static int grow_directory(struct slab *s)
{
	size_t cap = s->cap ? (size_t)s->cap * 2 : 16;
	struct slab_chunk **c = realloc(s->chunk, cap * sizeof(*c));

	if (!c)
		return -1;
	s->bytes += (cap - s->cap) * sizeof(*c);
	s->chunk = c;
	s->cap = (uint32_t)cap;
	return 0;
}

/* Put a new chunk into directory entry c, at most the first unused one. False: no memory. */
static bool add_chunk(struct slab *s, uint32_t c)
{
	/* Not calloc: slab_alloc() clears objects one by one as it hands them out. */
	struct slab_chunk *p = malloc(chunk_bytes(s));

	if (!p)
		return false;
	p->used = 0;
	s->chunk[c] = p;
	s->bytes += chunk_bytes(s);
	if (c == s->nr_chunks)
		s->nr_chunks++;
	return true;
}

/* Index of a chunk with a free object, made if need be, or SLAB_NIL. */
static uint32_t chunk_with_room(struct slab *s)
{
	uint32_t c = s->hint, hole = SLAB_NIL;

	for (; c < s->nr_chunks; c++) {
		if (!s->chunk[c]) {
			if (hole == SLAB_NIL)
				hole = c;
		} else if (~s->chunk[c]->used) {
			break;
		}
	}
	if (hole == SLAB_NIL)
		s->hint = c;
	if (c < s->nr_chunks)
		return c;
	if (hole == SLAB_NIL) {
		if (s->nr_chunks >= s->max / SLAB_CHUNK)
			return SLAB_NIL;
		if (s->nr_chunks == s->cap && grow_directory(s))
			return SLAB_NIL;
		hole = s->nr_chunks;
	}
	return add_chunk(s, hole) ? hole : SLAB_NIL;
}

uint32_t slab_alloc(struct slab *s)
{
	uint32_t c = chunk_with_room(s), bit;

	if (c == SLAB_NIL)
		return SLAB_NIL;
	bit = u64_first(~s->chunk[c]->used);
	bits_set(&s->chunk[c]->used, bit);
	s->nr++;
	memset(s->chunk[c]->obj + (size_t)bit * s->obj_size, 0, s->obj_size);
	return c * SLAB_CHUNK + bit;
}

void slab_free(struct slab *s, uint32_t i)
{
	uint32_t c = i / SLAB_CHUNK;

	assert(slab_is_used(s, i));
	bits_clear(&s->chunk[c]->used, i % SLAB_CHUNK);
	s->nr--;
	if (c < s->hint)
		s->hint = c;
	if (s->chunk[c]->used)
		return;
	free(s->chunk[c]);
	s->chunk[c] = NULL;
	s->bytes -= chunk_bytes(s);
	while (s->nr_chunks && !s->chunk[s->nr_chunks - 1])
		s->nr_chunks--;
	if (s->hint > s->nr_chunks)
		s->hint = s->nr_chunks;
}
