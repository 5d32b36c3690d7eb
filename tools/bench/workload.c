/* SPDX-License-Identifier: MIT */
/*
 * workload.c - what the memory of the tenants holds.
 *
 * Contents are a function from (process, page) to a content number. So tenant, verifier and
 * expectation agree without exchanging anything. Pages are equal when their numbers are, and only
 * then.
 */
#include "workload.h"

enum { TWIN_EVERY = 8 }; /* scattered: one page in so many has a twin */

/* instagram, in percent of the pages: workloads.py has the source. */
enum { ALIKE = 29, UNIQUE = 10 };

const char *const contents_name[CONTENTS_NR] = { "same",      "permuted", "scattered",
						 "unique",    "zero",     "real",
						 "alternate", "guests",   "instagram" };
const char *const manner_name[MANNER_NR] = {
	"plain", "huge", "dirty", "churn", "sparse", "forked", "beside",
};

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

static bool is_alike(uint64_t page)
{
	return mix(page) % 100 < ALIKE;
}

bool workload_volatile(enum contents c, uint64_t page)
{
	return c == CONTENTS_INSTAGRAM && mix(page) % 100 >= ALIKE + UNIQUE;
}

uint64_t workload_content(enum contents c, uint32_t proc, uint64_t page, uint64_t nr_pages)
{
	uint64_t unique = (uint64_t)(proc + 1) * nr_pages + page + 1;

	switch (c) {
	case CONTENTS_PERMUTED:
		return permute(page, nr_pages, proc * 77) + 1;
	case CONTENTS_SCATTERED:
		return page % TWIN_EVERY ? unique : page + 1;
	case CONTENTS_UNIQUE:
		return unique;
	case CONTENTS_ZERO:
		return is_zero(proc, page) ? 0 : unique;
	case CONTENTS_ALTERNATE:
		return page % 2 ? unique : permute(page / 2, (nr_pages + 1) / 2, proc * 77) + 1;
	case CONTENTS_INSTAGRAM:
		return is_alike(page) ? page + 1 : unique;
	default:
		return page + 1;
	}
}

uint64_t workload_expected(enum contents c, uint32_t processes, uint64_t nr_pages)
{
	uint64_t nr = 0;

	if (c == CONTENTS_UNIQUE || workload_is_real(c)) /* nobody knows what programs have alike */
		return 0;
	if (c == CONTENTS_SCATTERED)
		return (processes - 1) * ((nr_pages + TWIN_EVERY - 1) / TWIN_EVERY);
	if (c == CONTENTS_ALTERNATE)
		return (processes - 1) * ((nr_pages + 1) / 2);
	if (c == CONTENTS_INSTAGRAM) {
		for (uint64_t page = 0; page < nr_pages; page++)
			nr += is_alike(page);
		return (processes - 1) * nr;
	}
	if (c != CONTENTS_ZERO)
		return (processes - 1) * nr_pages;
	for (uint32_t proc = 0; proc < processes; proc++)
		for (uint64_t page = 0; page < nr_pages; page++)
			nr += is_zero(proc, page);
	return nr;
}
