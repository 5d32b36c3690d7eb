/* SPDX-License-Identifier: MIT */
/*
 * hash.c - a page's content as 56 bits, the upper ones of a word: a record has a use for the rest.
 *
 * A collision costs a refused order and nothing else, because a client compares every byte before
 * it maps a frame; so 56 bits are enough. The seed is secret: a client that can choose contents
 * cannot choose hashes, and cannot make a tree deep or a victim's page miss its partner.
 */
#include <string.h>
#include <xxhash.h>
#ifdef __x86_64__
/*
 * The library picks the widest vectors that the processor has: 0.27 us a page in place of 0.70 with
 * those that every x86-64 has (memory not in the cache).
 */
#include <xxh_x86dispatch.h>
#endif

#include "engine/hash.h"
#include "wire/abi.h"

uint64_t page_hash(const void *page, uint64_t seed)
{
	return XXH3_64bits_withSeed(page, KSM_PAGE_SIZE, seed) & ~(uint64_t)HASH_SPARE;
}

uint64_t bytes_hash(const void *bytes, size_t nr, uint64_t seed)
{
	return XXH3_64bits_withSeed(bytes, nr, seed);
}

bool page_is_zero(const void *page)
{
	const unsigned char *p = page;

	return p[0] == 0 && !memcmp(p, p + 1, KSM_PAGE_SIZE - 1);
}
