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

void slab_init(struct slab *s, size_t obj_size, uint32_t max, const struct slab_memory *memory)
{
	memset(s, 0, sizeof(*s));
	s->obj_size = (uint32_t)obj_size;
	s->max = max < SLAB_NIL ? max : SLAB_NIL;
	s->memory = memory;
}

void slab_deinit(struct slab *s)
{
	assert(s->nr == 0);
	free(s->chunk);
	free(s->place);
	memset(s, 0, sizeof(*s));
}

static size_t chunk_bytes(const struct slab *s)
{
	return sizeof(struct slab_chunk) + (size_t)SLAB_CHUNK * s->obj_size;
}

static int grow_directory(struct slab *s)
{
	size_t cap = s->cap ? (size_t)s->cap * 2 : 16, each = sizeof(*s->chunk);
	struct slab_chunk **c;
	uint8_t *place;

	if (s->memory) {
		place = realloc(s->place, cap);
		if (!place)
			return -1;
		s->place = place;
		each += sizeof(*place);
	}
	c = realloc(s->chunk, cap * sizeof(*c));
	if (!c)
		return -1;
	s->bytes += (cap - s->cap) * each;
	s->chunk = c;
	s->cap = (uint32_t)cap;
	return 0;
}

/* Put a new chunk into directory entry c, at most the first unused one. False: no memory. */
static bool add_chunk(struct slab *s, uint32_t c, unsigned int place)
{
	const struct slab_memory *m = s->memory;
	/* Not calloc: slab_alloc() clears objects one by one as it hands them out. */
	struct slab_chunk *p = m ? m->get(m->arg, chunk_bytes(s), place) : malloc(chunk_bytes(s));

	if (!p)
		return false;
	if (m)
		s->place[c] = (uint8_t)place;
	p->used = 0;
	s->chunk[c] = p;
	s->bytes += chunk_bytes(s);
	if (c == s->nr_chunks)
		s->nr_chunks++;
	return true;
}

static unsigned int place_of(const struct slab *s, uint32_t c)
{
	return s->place ? s->place[c] : 0;
}

/* Index of a chunk with a free object, made if need be, or SLAB_NIL. */
static uint32_t chunk_with_room(struct slab *s, unsigned int place)
{
	uint32_t c = s->hint[place], hole = SLAB_NIL;

	for (; c < s->nr_chunks; c++) {
		if (!s->chunk[c]) {
			if (hole == SLAB_NIL)
				hole = c;
		} else if (place_of(s, c) == place && ~s->chunk[c]->used) {
			break;
		}
	}
	if (hole == SLAB_NIL)
		s->hint[place] = c;
	if (c < s->nr_chunks)
		return c;
	if (hole == SLAB_NIL) {
		if (s->nr_chunks >= s->max / SLAB_CHUNK)
			return SLAB_NIL;
		if (s->nr_chunks == s->cap && grow_directory(s))
			return SLAB_NIL;
		hole = s->nr_chunks;
	}
	return add_chunk(s, hole, place) ? hole : SLAB_NIL;
}

uint32_t slab_alloc(struct slab *s, unsigned int place)
{
	uint32_t c, bit;

	assert(place < SLAB_PLACES);
	c = chunk_with_room(s, s->memory ? place : 0);
	if (c == SLAB_NIL)
		return SLAB_NIL;
	bit = u64_first(~s->chunk[c]->used);
	bits_set(&s->chunk[c]->used, bit);
	s->nr++;
	memset(s->chunk[c]->obj + (size_t)bit * s->obj_size, 0, s->obj_size);
	return c * SLAB_CHUNK + bit;
}

/* Chunk c has gone, and its entry can be had for any place. */
static void lower_hints(struct slab *s, uint32_t c)
{
	for (unsigned int p = 0; p < (s->memory ? SLAB_PLACES : 1); p++)
		if (c < s->hint[p])
			s->hint[p] = c;
}

void slab_free(struct slab *s, uint32_t i)
{
	uint32_t c = i / SLAB_CHUNK, *hint;

	assert(slab_is_used(s, i));
	hint = &s->hint[place_of(s, c)];
	bits_clear(&s->chunk[c]->used, i % SLAB_CHUNK);
	s->nr--;
	if (c < *hint)
		*hint = c;
	if (s->chunk[c]->used)
		return;
	if (s->memory)
		s->memory->put(s->memory->arg, s->chunk[c], chunk_bytes(s));
	else
		free(s->chunk[c]);
	lower_hints(s, c);
	s->chunk[c] = NULL;
	s->bytes -= chunk_bytes(s);
	while (s->nr_chunks && !s->chunk[s->nr_chunks - 1])
		s->nr_chunks--;
}
