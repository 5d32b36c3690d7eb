/* SPDX-License-Identifier: MIT */
/*
 * workload.c - what the memory of the tenants holds.
 *
 * A workload is a function from (process, page) to a content number. So tenant, verifier and
 * expectation agree without exchanging anything. Pages are equal when their numbers are, and only
 * then.
 */
#include "workload.h"

#include <string.h>

enum { TWIN_EVERY = 8 }; /* scattered: one page in so many has a twin */

const struct workload workloads[] = {
	{ .name = "clones",
	  .what = "identical memory at identical offsets, no two pages of a process alike",
	  .size_mib = 512,
	  .processes = 2 },
	{ .name = "permuted",
	  .what = "the same pages in every process, each in its own random order",
	  .size_mib = 128,
	  .processes = 2 },
	{ .name = "scattered",
	  .what = "every 8th page has a twin in the other processes, the rest is unique",
	  .size_mib = 256,
	  .processes = 2 },
	{ .name = "unique", .what = "no two pages alike", .size_mib = 512, .processes = 2 },
	{ .name = "zero",
	  .what = "a random half of the pages is zero, the rest is unique",
	  .size_mib = 256,
	  .processes = 2,
	  .zero = true },
	{ .name = "dirty",
	  .what = "clones, 1 % of whose pages are rewritten between passes",
	  .size_mib = 256,
	  .processes = 2,
	  .dirty = true },
	{ .name = "many",
	  .what = "clones in many small processes",
	  .size_mib = 4,
	  .processes = 200 },
	{ .name = "huge",
	  .what = "clones in transparent huge pages",
	  .size_mib = 512,
	  .processes = 2,
	  .huge = true },
	{ .name = "real",
	  .what = "redis-server and memcached, two of each with the same data",
	  .size_mib = 64,
	  .processes = 4,
	  .real = true },
	{ .name = "growth",
	  .what = "cost per page: 16 times the size; 200 processes against 2 of the same total",
	  .size_mib = 4096,
	  .processes = 2,
	  .growth = true },
	{ .name = NULL },
};

const struct workload *workload_find(const char *name)
{
	for (const struct workload *w = workloads; w->name; w++)
		if (!strcmp(w->name, name))
			return w;
	return NULL;
}

uint64_t workload_bytes(const struct workload *w, unsigned int processes, unsigned int size_mib)
{
	uint64_t bytes = (uint64_t)processes * size_mib << 20;

	/*
	 * Real programs: their data, and what they add to it. Others: frames, until the pages that
	 * they replace are free.
	 */
	return w->real ? 2 * bytes : bytes + bytes / 8;
}

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

/*
 * A bijection of [0, n) for each key, which saves a table per process. It is a four-round Feistel
 * network on the next even power of two, walked until it falls inside.
 */
static uint64_t permute(uint64_t x, uint64_t n, uint64_t key)
{
	unsigned int half = 1;

	while ((1ull << (2 * half)) < n)
		half++;
	do {
		uint64_t l = x >> half, r = x & ((1ull << half) - 1);

		for (int i = 0; i < 4; i++) {
			uint64_t t = l ^
				     (mix(r + key + (uint64_t)i * 0x1001) & ((1ull << half) - 1));

			l = r;
			r = t;
		}
		x = l << half | r;
	} while (x >= n);
	return x;
}

static bool is_zero(uint32_t proc, uint64_t page)
{
	return mix(page * 1024 + proc) & 1;
}

uint64_t workload_content(const struct workload *w, uint32_t proc, uint64_t page, uint64_t nr_pages)
{
	uint64_t unique = (uint64_t)(proc + 1) * nr_pages + page + 1;

	if (!strcmp(w->name, "permuted"))
		return permute(page, nr_pages, proc * 77) + 1;
	if (!strcmp(w->name, "scattered"))
		return page % TWIN_EVERY ? unique : page + 1;
	if (!strcmp(w->name, "unique"))
		return unique;
	if (w->zero)
		return is_zero(proc, page) ? 0 : unique;
	return page + 1;
}

uint64_t workload_expected(const struct workload *w, uint32_t processes, uint64_t nr_pages)
{
	uint64_t nr = 0;

	if (!strcmp(w->name, "unique") || w->real) /* nobody knows what programs have alike */
		return 0;
	if (!strcmp(w->name, "scattered"))
		return (processes - 1) * ((nr_pages + TWIN_EVERY - 1) / TWIN_EVERY);
	if (!w->zero)
		return (processes - 1) * nr_pages;
	for (uint32_t proc = 0; proc < processes; proc++)
		for (uint64_t page = 0; page < nr_pages; page++)
			nr += is_zero(proc, page);
	return nr;
}
