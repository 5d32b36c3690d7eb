/* SPDX-License-Identifier: MIT */
/*
 * frames.c - see frames.h.
 *
 * The patterns are those that LLFree was published with. bulk: half of the zone is taken and given
 * back in the reverse order. rand: half is taken and given back in a random order. frag: all is
 * taken, a random half given back, and then a tenth of the rest, one frame at a time, given back
 * and taken anew, 100 times; how much of what is free lies in whole free pageblocks after that?
 * Beside the pool a plain bitmap does the same, searched from where the last search ended, and
 * LLFree's method, written from its description (llfree.c). What its authors measured stands below,
 * on their machine. In a full zone, which they have not, each frame given back is taken again.
 *
 * Then the test of the kernel's first compaction: a zone is filled, every second frame is given
 * back, and runs of 2 MiB are asked for in steps of 5 %, with what is in the way moved and without.
 *
 * Only numbers are moved here: what moving contents costs is the clients' part, and in costs.c.
 */
#include "frames.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bits.h"
#include "base/clock.h"
#include "llfree.h"
#include "message.h"
#include "pool/range.h"
#include "rand.h"

#define ZONE (1u << 18) /* frames: 1 GiB */
#define HALF (ZONE / 2)
#define BLOCKS (ZONE / PAGEBLOCK_FRAMES)
#define FRAG_ROUNDS 100u
#define FRAG_PART (HALF / 10)
#define STEPS 20u /* of 5 % */
#define SEED 88172645463325252ull

/*
 * As published: the median of four runs of one core in allocator/latest-dram/{bulk,rand}/out_0.csv
 * of github.com/luhsra/llfree-bench, which has the data of the paper (ATC 2023, 128 GiB, Xeon Gold
 * 5320 at 2.2 GHz), and the last of the 100 rounds in frag/latest-{ll,bu}/out.csv (8 cores).
 */
static const char published[] =
	"| LLFree as published, another machine | 48 / 41 | 48 / 53 | | 94 % | | |\n"
	"| Linux as they measured it | | | | 15 % | | |\n";

/* --- what is compared --- */

struct bitmap {
	uint64_t word[ZONE / 64]; /* 1: free */
	uint32_t at;
};

/* A source of frames: one of the three. */
struct source {
	const char *name;
	struct pool *pool;
	uint32_t cache; /* of the pool */
	struct bitmap *bits;
	struct llfree *llfree;
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
	if (s->pool)
		return pool_alloc(s->pool, s->cache, 0, POOL_NONE, POOL_NONE);
	return s->bits ? bitmap_take(s->bits) : llfree_take(s->llfree);
}

static void give(const struct source *s, uint32_t f)
{
	if (s->pool)
		pool_free(s->pool, s->cache, f, 1, false);
	else if (s->bits)
		s->bits->word[f / 64] |= 1ull << f % 64;
	else
		llfree_give(s->llfree, f);
}

/* --- the patterns: ns for each taking, and each giving back --- */

/* Of this thread: what others do meanwhile is not counted, but for what it does to caches. */
static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

struct ns {
	double take, give;
};

static void take_all(const struct source *s, uint32_t *v, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++)
		v[i] = take(s);
}

static void give_all(const struct source *s, const uint32_t *v, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++)
		give(s, v[i]);
}

static void shuffle(uint32_t *v, uint32_t nr, uint64_t *x)
{
	for (uint32_t i = nr; i > 1; i--) {
		uint32_t k = (uint32_t)(xorshift(x) % i), f = v[k];

		v[k] = v[i - 1];
		v[i - 1] = f;
	}
}

/* Half is taken and given back, in the reverse order or in a random one. */
static struct ns half(const struct source *s, uint32_t *v, bool random)
{
	uint64_t x = SEED, begun = cpu_ns(), took, again;

	take_all(s, v, HALF);
	took = cpu_ns() - begun;
	if (random)
		shuffle(v, HALF, &x);
	else
		for (uint32_t i = 0; i < HALF / 2; i++) {
			uint32_t f = v[i];

			v[i] = v[HALF - 1 - i];
			v[HALF - 1 - i] = f;
		}
	again = cpu_ns();
	give_all(s, v, HALF);
	return (struct ns){ (double)took / HALF, (double)(cpu_ns() - again) / HALF };
}

/* Percent of the free half that lies in pageblocks of which nothing is taken. */
static double in_whole_blocks(const uint32_t *v)
{
	bool used[BLOCKS] = { false };
	uint32_t nr = 0;

	for (uint32_t i = 0; i < HALF; i++)
		used[v[i] / PAGEBLOCK_FRAMES] = true;
	for (uint32_t b = 0; b < BLOCKS; b++)
		nr += !used[b];
	return nr * 100.0 * PAGEBLOCK_FRAMES / HALF;
}

/* Returns ns for both together; *whole as above. */
static double fragmented(const struct source *s, uint32_t *v, double *whole)
{
	uint64_t x = SEED, begun, all;

	take_all(s, v, ZONE);
	shuffle(v, ZONE, &x);
	give_all(s, v + HALF, HALF);
	begun = cpu_ns();
	for (uint32_t n = 0; n < FRAG_ROUNDS * FRAG_PART; n++) {
		uint32_t i = (uint32_t)(xorshift(&x) % HALF);

		give(s, v[i]);
		v[i] = take(s);
	}
	all = cpu_ns() - begun;
	*whole = in_whole_blocks(v);
	give_all(s, v, HALF);
	return (double)all / (FRAG_ROUNDS * FRAG_PART);
}

/* The same in a full zone, with frames at random. */
static double full(const struct source *s, uint32_t *v)
{
	uint64_t x = SEED, begun, all;

	take_all(s, v, ZONE);
	begun = cpu_ns();
	for (uint32_t n = 0; n < ZONE; n++) {
		uint32_t i = (uint32_t)(xorshift(&x) % ZONE);

		give(s, v[i]);
		v[i] = take(s);
	}
	all = cpu_ns() - begun;
	give_all(s, v, ZONE);
	return (double)all / ZONE;
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
	give_all(s, v, ZONE);
	qsort(ns, ZONE, sizeof(*ns), by_size);
	return ns[ZONE - ZONE / 100];
}

/* Does it hand out each frame once? Else it is not what is to be measured. */
static bool hands_out_each(const struct source *s, uint32_t *v, uint32_t *seen)
{
	bool ok = true;

	memset(seen, 0, ZONE * sizeof(*seen));
	take_all(s, v, ZONE);
	for (uint32_t i = 0; i < ZONE; i++)
		ok &= v[i] < ZONE && !seen[v[i]]++;
	ok &= take(s) == POOL_NONE;
	if (ok)
		give_all(s, v, ZONE);
	return ok;
}

static int print_source(const struct source *s, uint32_t *v, uint32_t *ns)
{
	struct ns b, r;
	double f, whole;

	if (!hands_out_each(s, v, ns)) {
		complain("%s: not each frame once", s->name);
		return -EIO;
	}
	b = half(s, v, false);
	r = half(s, v, true);
	f = fragmented(s, v, &whole);
	printf("| %s | %.0f / %.0f | %.0f / %.0f | %.0f | %.0f %% | %.0f | %u |\n", s->name, b.take,
	       b.give, r.take, r.give, f, whole, full(s, v), slow_take(s, v, ns));
	return 0;
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
	struct llfree *llfree = llfree_new(ZONE);
	struct pool p = { .nr_zones = 0 };
	int err = bits && llfree ? pool_init(&p, &config) : -ENOMEM;
	const struct source sources[] = {
		{ .name = "pool, from a thread's cache", .pool = &p },
		{ .name = "pool, without a cache", .pool = &p, .cache = POOL_NO_CACHE },
		{ .name = "bitmap", .bits = bits },
		{ .name = "LLFree's method", .llfree = llfree },
	};

	if (!err) {
		memset(bits->word, 0xff, sizeof(bits->word));
		bits->at = 0;
		for (size_t i = 0; !err && i < sizeof(sources) / sizeof(sources[0]); i++)
			err = print_source(&sources[i], v, ns);
		printf("%s", published);
	}
	pool_deinit(&p);
	llfree_del(llfree);
	free(bits);
	return err;
}

int frames_print(void)
{
	uint32_t *v = malloc(2 * ZONE * sizeof(*v));
	int err = v ? 0 : -ENOMEM;

	printf("Frames of a zone of 1 GiB; ns of CPU time to take / to give back one. frag, "
	       "full: both together.\n"
	       "whole: what of the free frames lies in whole free pageblocks after frag.\n\n"
	       "| | bulk | rand | frag | whole | full | 99th percentile of taking |\n"
	       "|---|---|---|---|---|---|---|\n");
	if (!err)
		err = print_takes(v, v + ZONE);
	printf("\nEvery second frame is free, and runs of 2 MiB are asked for.\n\n"
	       "| frames in the way | had | of what is possible | slowest, us | isolation of a "
	       "pageblock, us |\n|---|---|---|---|---|\n");
	err = err ? err : print_runs(false);
	err = err ? err : print_runs(true);
	free(v);
	if (err == -ENOMEM)
		complain("no memory");
	return err;
}
