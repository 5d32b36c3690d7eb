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

#endif
