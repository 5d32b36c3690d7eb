/* SPDX-License-Identifier: MIT */
/*
 * bits.h - bits of 64-bit words, and bitmaps made of such words.
 *
 * Bit i of a bitmap is bit i % 64 of word i / 64. A bitmap's owner knows its length; it is a
 * multiple of 64 wherever a function takes it, so no function has to mask the last word.
 */
#ifndef KSM_BITS_H
#define KSM_BITS_H

#include <stdbool.h>
#include <stdint.h>

#define BITS_PER_WORD 64u

/* Number of the lowest set bit; word must not be 0. */
static inline uint32_t u64_first(uint64_t word)
{
	return (uint32_t)__builtin_ctzll(word);
}

/* How many bits are set. */
static inline uint32_t u64_ones(uint64_t word)
{
	return (uint32_t)__builtin_popcountll(word);
}

/* The word in which bit i alone is set; i < 64. */
static inline uint64_t u64_bit(uint32_t i)
{
	return 1ull << i;
}

static inline bool bits_test(const uint64_t *map, uint32_t i)
{
	return map[i / BITS_PER_WORD] >> (i % BITS_PER_WORD) & 1;
}

static inline void bits_set(uint64_t *map, uint32_t i)
{
	map[i / BITS_PER_WORD] |= u64_bit(i % BITS_PER_WORD);
}

static inline void bits_clear(uint64_t *map, uint32_t i)
{
	map[i / BITS_PER_WORD] &= ~u64_bit(i % BITS_PER_WORD);
}

/* Number of the lowest clear bit of a bitmap of `nr` bits; `nr` when all are set. */
static inline uint32_t bits_first_clear(const uint64_t *map, uint32_t nr)
{
	for (uint32_t w = 0; w < nr / BITS_PER_WORD; w++)
		if (~map[w])
			return w * BITS_PER_WORD + u64_first(~map[w]);
	return nr;
}

/* How many of the first `nr` bits are set. */
static inline uint32_t bits_ones(const uint64_t *map, uint32_t nr)
{
	uint32_t ones = 0;

	for (uint32_t w = 0; w < nr / BITS_PER_WORD; w++)
		ones += u64_ones(map[w]);
	return ones;
}

#endif
