/* SPDX-License-Identifier: MIT */
/* test_slab.c - indexed storage: indices and pointers stay, chunks come and go. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/slab.h"
#include "fake.h"
#include "suites.h"

struct thing {
	uint64_t a, b, c;
};

START_TEST(random_alloc_free)
{
	static uint32_t idx[5000];
	static struct thing *ptr[5000];
	uint64_t rng = fake_seed();
	struct slab s;
	int nr = 0;

	slab_init(&s, sizeof(struct thing), SLAB_NIL, NULL);
	for (int step = 0; step < 50000; step++) {
		if (nr < 5000 && (step < 5000 || fake_rand(&rng) & 1)) {
			idx[nr] = slab_alloc(&s, 0);
			ck_assert_uint_ne(idx[nr], SLAB_NIL);
			ptr[nr] = slab_get(&s, idx[nr], sizeof(struct thing));
			must(!ptr[nr]->a && !ptr[nr]->b && !ptr[nr]->c);
			ptr[nr]->a = idx[nr];
			ptr[nr]->c = ~0ull;
			nr++;
		} else if (nr) {
			int i = (int)(fake_rand(&rng) % (unsigned int)nr);

			ck_assert_ptr_eq(slab_get(&s, idx[i], sizeof(struct thing)), ptr[i]);
			ck_assert_uint_eq(ptr[i]->a, idx[i]);
			slab_free(&s, idx[i]);
			idx[i] = idx[--nr];
			ptr[i] = ptr[nr];
		}
		must(s.nr == (uint32_t)nr);
	}
	while (nr)
		slab_free(&s, idx[--nr]);
	ck_assert_uint_eq(s.nr_chunks, 0);
	slab_deinit(&s);
}
END_TEST

START_TEST(limit_and_memory_returned)
{
	struct slab s;
	uint64_t empty;

	slab_init(&s, sizeof(struct thing), 130, NULL);
	for (uint32_t i = 0; i < 128; i++)
		ck_assert_uint_eq(slab_alloc(&s, 0), i);
	ck_assert_uint_eq(slab_alloc(&s, 0), SLAB_NIL);
	for (uint32_t i = 0; i < 128; i++)
		slab_free(&s, 127 - i);
	empty = s.bytes;
	ck_assert_uint_le(empty, 16 * sizeof(void *));
	ck_assert_uint_eq(slab_alloc(&s, 0), 0);
	must(slab_is_used(&s, 0) && !slab_is_used(&s, 1) && !slab_is_used(&s, 64));
	slab_free(&s, 0);
	slab_deinit(&s);
}
END_TEST

#define PLACES 3u
/* Memory that knows where each chunk was to lie, and how much of it is out. */
struct placed {
	uint64_t place;
	_Alignas(8) unsigned char chunk[];
};

static void *placed_get(void *out, size_t bytes, unsigned int place)
{
	struct placed *p = malloc(sizeof(*p) + bytes);

	must(p);
	p->place = place;
	*(uint64_t *)out += bytes;
	return p->chunk;
}

static void placed_put(void *out, void *chunk, size_t bytes)
{
	*(uint64_t *)out -= bytes;
	free((char *)chunk - offsetof(struct placed, chunk));
}

static uint64_t place_of(const struct slab *s, uint32_t i)
{
	const char *chunk = (const char *)s->chunk[i / SLAB_CHUNK];

	return ((const struct placed *)(chunk - offsetof(struct placed, chunk)))->place;
}

/*
 * Each object lies in its place, and entries that a place has left are used by others. Seen to fail
 * when chunk_with_room() takes a chunk of another place, and when slab_free() lowers only the hint
 * of the chunk's own place (then the directory grows).
 */
START_TEST(places)
{
	static uint32_t idx[PLACES][2000];
	uint32_t nr[PLACES] = { 0 };
	uint64_t rng = fake_seed(), out = 0;
	const struct slab_memory memory = { placed_get, placed_put, &out };
	struct slab s;

	slab_init(&s, sizeof(struct thing), SLAB_NIL, &memory);
	for (int step = 0; step < 60000; step++) {
		/* For a while one place grows and the others shrink, and so on in turn. */
		unsigned int p = (unsigned int)(fake_rand(&rng) % PLACES);
		bool grow = (step / 5000) % PLACES == p;

		if (fake_rand(&rng) % 8 == 0)
			grow = !grow;
		if (grow && nr[p] < 2000) {
			uint32_t i = slab_alloc(&s, p);

			must(i != SLAB_NIL && place_of(&s, i) == p);
			idx[p][nr[p]++] = i;
		} else if (!grow && nr[p]) {
			slab_free(&s, idx[p][--nr[p]]);
		}
		must(s.nr == nr[0] + nr[1] + nr[2]);
	}
	/* At no time were there more than 2000 in one place, and a remainder in the others. */
	ck_assert_uint_le(s.cap, 128);
	for (unsigned int p = 0; p < PLACES; p++)
		while (nr[p])
			slab_free(&s, idx[p][--nr[p]]);
	ck_assert_uint_eq(out, 0);
	/* An entry of one place serves another. */
	ck_assert_uint_eq(slab_alloc(&s, 0), 0);
	ck_assert_uint_eq(slab_alloc(&s, 1), SLAB_CHUNK);
	ck_assert_uint_eq(slab_alloc(&s, 0), 1);
	slab_free(&s, 1);
	slab_free(&s, 0);
	ck_assert_uint_eq(slab_alloc(&s, 2), 0);
	ck_assert_uint_eq(slab_alloc(&s, 1), SLAB_CHUNK + 1);
	slab_free(&s, 0);
	slab_free(&s, SLAB_CHUNK);
	slab_free(&s, SLAB_CHUNK + 1);
	slab_deinit(&s);
}
END_TEST

Suite *suite_slab(void)
{
	Suite *s = suite_create("slab");
	TCase *tc = engine_case("slab");

	tcase_add_test(tc, random_alloc_free);
	tcase_add_test(tc, limit_and_memory_returned);
	tcase_add_test(tc, places);
	suite_add_tcase(s, tc);
	return s;
}
