/* SPDX-License-Identifier: MIT */
/*
 * span.h - half-open ranges of unsigned 64-bit numbers, and the smaller and larger of two numbers.
 *
 * A span [start, end) is empty when start >= end. Every function accepts empty spans, and clipping
 * an empty one leaves it empty, so callers test span_empty() once, at the end.
 */
#ifndef KSM_SPAN_H
#define KSM_SPAN_H

#include <stdbool.h>
#include <stdint.h>

struct span {
	uint64_t start, end;
};

static inline uint64_t u64_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t u64_max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static inline bool span_empty(struct span s)
{
	return s.start >= s.end;
}

static inline uint64_t span_len(struct span s)
{
	return span_empty(s) ? 0 : s.end - s.start;
}

/* The part of s that lies in `bounds`; empty when the two do not meet. */
static inline struct span span_clip(struct span s, struct span bounds)
{
	return (struct span){ u64_max(s.start, bounds.start), u64_min(s.end, bounds.end) };
}

/* Whether any number lies in both. Spans that only touch do not meet. */
static inline bool span_meets(struct span a, struct span b)
{
	return !span_empty(span_clip(a, b));
}

static inline bool span_holds(struct span s, uint64_t x)
{
	return s.start <= x && x < s.end;
}

#endif
