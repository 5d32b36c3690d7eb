/* SPDX-License-Identifier: MIT */
/*
 * frames.c - see frames.h.
 *
 * The patterns are those that LLFree was published with: bulk (take all, give all), rand (give and
 * take frames at random in a full zone), frag (take from a zone in which every second frame is
 * free). A plain bitmap, searched from where the last search ended, does the same beside it. Then
 * the test of the kernel's first compaction: a zone is filled, every second frame is given back,
 * and runs of 2 MiB are asked for in steps of 5 %, with what is in the way moved and without.
 *
 * Only numbers are moved here: what moving contents costs is the clients' part, and in costs.c.
 */
#include "frames.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "message.h"
#include "pool/range.h"
#include "rand.h"

#define ZONE (1u << 18)       /* frames: 1 GiB */
#define RANDOM_OPS (1u << 20) /* of the pattern rand */
#define BLOCKS (ZONE / PAGEBLOCK_FRAMES)
#define STEPS 20u /* of 5 % */
#define SEED 88172645463325252ull

/* --- what is compared --- */

struct bitmap {
	uint64_t word[ZONE / 64]; /* 1: free */
	uint32_t at;
};

/* A source of frames. */
struct source {
	const char *name;
	struct pool *pool; /* or NULL: the bitmap */
	struct bitmap *bits;
	uint32_t cache;
};

static uint32_t bitmap_take(struct bitmap *b)
{
	for (uint32_t n = 0; n < ZONE / 64; n++) {
		uint32_t w = (b->at + n) % (ZONE / 64);

		if (b->word[w]) {
			uint32_t bit = u64_first(b->word[w]);

			b->word[w] &= b->word[w] - 1;
			b->at = w;
			return w * 64 + bit;
		}
	}
	return POOL_NONE;
}

static uint32_t take(const struct source *s)
{
	return s->pool ? pool_alloc(s->pool, s->cache, 0, POOL_NONE, POOL_NONE) :
			 bitmap_take(s->bits);
}

static void give(const struct source *s, uint32_t f)
{
	if (s->pool)
		pool_free(s->pool, s->cache, f, 1, false);
	else
		s->bits->word[f / 64] |= 1ull << f % 64;
}

/* --- the patterns: ns for each taking, and each giving back --- */

struct ns {
	double take, give;
};

static struct ns per(uint64_t begun, uint64_t between, uint64_t end, uint32_t nr)
{
	return (struct ns){ (double)(between - begun) / nr, (double)(end - between) / nr };
}

static struct ns bulk(const struct source *s, uint32_t *v)
{
	uint64_t begun = clock_ns(), between;

	for (uint32_t i = 0; i < ZONE; i++)
		v[i] = take(s);
	between = clock_ns();
	for (uint32_t i = 0; i < ZONE; i++)
		give(s, v[i]);
	return per(begun, between, clock_ns(), ZONE);
}

/* One frame back, and one out: the common case of a pool that is in use. */
static struct ns random_pairs(const struct source *s, uint32_t *v)
{
	uint64_t x = SEED, begun, all;

	for (uint32_t i = 0; i < ZONE; i++)
		v[i] = take(s);
	begun = clock_ns();
	for (uint32_t n = 0; n < RANDOM_OPS; n++) {
		uint32_t i = (uint32_t)(xorshift(&x) % ZONE);

		give(s, v[i]);
		v[i] = take(s);
	}
	all = clock_ns() - begun;
	for (uint32_t i = 0; i < ZONE; i++)
		give(s, v[i]);
	return (struct ns){ (double)all / RANDOM_OPS / 2, (double)all / RANDOM_OPS / 2 };
}

static struct ns fragmented(const struct source *s, uint32_t *v)
{
	uint64_t begun, between;
	struct ns ns;

	for (uint32_t i = 0; i < ZONE; i++)
		v[i] = take(s);
	begun = clock_ns();
	for (uint32_t i = 0; i < ZONE; i += 2)
		give(s, v[i]);
	between = clock_ns();
	for (uint32_t i = 0; i < ZONE; i += 2)
		v[i] = take(s);
	ns = per(between, clock_ns(), clock_ns(), ZONE / 2);
	ns.give = (double)(between - begun) / (ZONE / 2);
	for (uint32_t i = 0; i < ZONE; i++)
		give(s, v[i]);
	return ns;
}

static int by_size(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* 99th percentile of a taking, the two looks at the clock included, when the zone fills up. */
static uint32_t slow_take(const struct source *s, uint32_t *v, uint32_t *ns)
{
	for (uint32_t i = 0; i < ZONE; i++) {
		uint64_t begun = clock_ns();

		v[i] = take(s);
		ns[i] = (uint32_t)(clock_ns() - begun);
	}
	for (uint32_t i = 0; i < ZONE; i++)
		give(s, v[i]);
	qsort(ns, ZONE, sizeof(*ns), by_size);
	return ns[ZONE - ZONE / 100];
}

static void print_source(const struct source *s, uint32_t *v, uint32_t *ns)
{
	struct ns b = bulk(s, v), r = random_pairs(s, v), f = fragmented(s, v);

	printf("| %s | %.0f / %.0f | %.0f | %.0f / %.0f | %u |\n", s->name, b.take, b.give, r.take,
	       f.take, f.give, slow_take(s, v, ns));
}

/* --- isolation, and runs from a fragmented zone --- */

static int move_numbers(void *ctx, uint32_t from, uint32_t nr, uint32_t to,
			struct pool_culprit *who)
{
	(void)ctx;
	(void)from;
	(void)nr;
	(void)to;
	(void)who;
	return 0;
}

static const struct pool_ops ops = { .move = move_numbers };
static const struct pool_config config = {
	.ops = &ops,
	.nr_zones = 1,
	.zone_frames = ZONE,
	.nr_caches = 1,
};

/* Of a full zone every second frame is given back. */
static void fill_every_second(struct pool *p)
{
	for (uint32_t f = 0; f < ZONE; f++)
		pool_alloc(p, POOL_NO_CACHE, 0, f, POOL_NONE);
	for (uint32_t f = 0; f < ZONE; f += 2)
		pool_free(p, POOL_NO_CACHE, f, 1, false);
}

static double isolation_us(struct pool *p)
{
	struct pool_culprit who;
	uint64_t begun = clock_ns();

	for (uint32_t b = 0; b < BLOCKS; b++) {
		range_isolate(p, b * PAGEBLOCK_FRAMES, (b + 1) * PAGEBLOCK_FRAMES, &who);
		range_undo_isolate(p, b * PAGEBLOCK_FRAMES, (b + 1) * PAGEBLOCK_FRAMES);
	}
	return (double)(clock_ns() - begun) / 1000 / BLOCKS;
}

/* Ask for a twentieth of the zone in runs. Returns how many were had; *slowest in us. */
static uint32_t ask_for_runs(struct pool *p, bool compact, double *slowest)
{
	uint32_t had = 0;

	for (uint32_t i = 0; i < BLOCKS / STEPS; i++) {
		struct range_job job = { 0 };
		uint64_t begun = clock_ns();
		uint32_t f;
		int err = pool_alloc_run(p, 0, POOL_MOVABLE, PAGEBLOCK_ORDER, &f);
		double us;

		if (err && compact)
			err = range_alloc_any(p, 0, ZONE, PAGEBLOCK_FRAMES, PAGEBLOCK_FRAMES, &job,
					      &f);
		us = (double)(clock_ns() - begun) / 1000;
		*slowest = us > *slowest ? us : *slowest;
		had += !err;
	}
	return had;
}

static int print_runs(bool compact)
{
	/* Half of the zone is free. */
	const uint32_t possible = STEPS / 2 * (BLOCKS / STEPS);
	uint32_t had = 0;
	double slowest = 0, us;
	struct pool p;
	int err = pool_init(&p, &config);

	if (err)
		return err;
	fill_every_second(&p);
	us = isolation_us(&p);
	for (uint32_t n = 0; n < STEPS / 2; n++)
		had += ask_for_runs(&p, compact, &slowest);
	printf("| %s | %u of %u | %.0f %% | %.0f | %.1f |\n", compact ? "moved" : "left", had,
	       possible, had * 100.0 / possible, slowest, us);
	pool_deinit(&p);
	return 0;
}

static int print_takes(uint32_t *v, uint32_t *ns)
{
	struct bitmap *bits = malloc(sizeof(*bits));
	struct pool p;
	int err = bits ? pool_init(&p, &config) : -ENOMEM;
	const struct source sources[] = {
		{ "pool, from a thread's cache", &p, NULL, 0 },
		{ "pool, without a cache", &p, NULL, POOL_NO_CACHE },
		{ "bitmap", NULL, bits, 0 },
	};

	if (!err) {
		memset(bits->word, 0xff, sizeof(bits->word));
		bits->at = 0;
		for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++)
			print_source(&sources[i], v, ns);
		pool_deinit(&p);
	}
	free(bits);
	return err;
}

int frames_print(void)
{
	uint32_t *v = malloc(2 * ZONE * sizeof(*v));
	int err = v ? 0 : -ENOMEM;

	printf("Frames of a zone of 1 GiB; ns to take / to give back one.\n\n"
	       "| | bulk | rand | frag | 99th percentile of taking |\n|---|---|---|---|---|\n");
	if (!err)
		err = print_takes(v, v + ZONE);
	printf("\nEvery second frame is free, and runs of 2 MiB are asked for.\n\n"
	       "| frames in the way | had | of what is possible | slowest, us | isolation of a "
	       "pageblock, us |\n|---|---|---|---|---|\n");
	err = err ? err : print_runs(false);
	err = err ? err : print_runs(true);
	free(v);
	if (err)
		complain("no memory");
	return err;
}
