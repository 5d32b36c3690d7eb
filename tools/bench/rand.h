/* SPDX-License-Identifier: MIT */
/* rand.h - numbers that look random, the same in every run and process. */
#ifndef KSM_BENCH_RAND_H
#define KSM_BENCH_RAND_H

#include <stdint.h>

/* The next number of Marsaglia's xorshift generator; *x, the number before it, must not be 0. */
static inline uint64_t xorshift(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

/*
 * The least number from `least` (1 or more) on that has no factor in common with n. Steps of so
 * many, modulo n, meet every number below n once.
 */
static inline uint64_t stride_from(uint64_t least, uint64_t n)
{
	for (;; least++) {
		uint64_t a = least, b = n;

		while (b) {
			uint64_t t = a % b;

			a = b;
			b = t;
		}
		if (a == 1)
			return least;
	}
}

#endif
