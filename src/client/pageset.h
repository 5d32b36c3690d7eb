/* SPDX-License-Identifier: MIT */
/*
 * pageset.h - sets of the pages of a block, a bit for each.
 *
 * Page numbers are 0 to 63 where a page is meant, and 0 to 64 where an end is.
 */
#ifndef KSM_PAGESET_H
#define KSM_PAGESET_H

#include <stdbool.h>
#include <stdint.h>

static inline uint64_t pageset_bit(unsigned int i)
{
	return 1ull << i; /* NOLINT(clang-analyzer-core.UndefinedBinaryOperatorResult): i < 64 */
}

/* Pages [from, to); from < to. */
static inline uint64_t pageset_range(unsigned int from, unsigned int to)
{
	return (to - from == 64 ? ~0ull : (1ull << (to - from)) - 1) << from;
}

/* Find the next run of pages at or after *from: [*from, *to). False: there is none. */
static inline bool pageset_next(uint64_t set, unsigned int *from, unsigned int *to)
{
	uint64_t rest = *from < 64 ? set >> *from : 0;

	if (!rest)
		return false;
	*from += (unsigned int)__builtin_ctzll(rest);
	rest = ~(set >> *from);
	*to = rest ? *from + (unsigned int)__builtin_ctzll(rest) : 64;
	if (*to > 64)
		*to = 64;
	return true;
}

#endif
