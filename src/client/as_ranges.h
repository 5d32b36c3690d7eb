/* SPDX-License-Identifier: MIT */
/*
 * as_ranges.h - the table of ranges: what the library knows of memory that was mapped through it
 * or offered by madvise.
 *
 * Memory that the table does not name is never merged. So an edit that finds no memory may always
 * forget more than it was asked to.
 */
#ifndef KSM_AS_RANGES_H
#define KSM_AS_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/span.h"
#include "client/as.h"

enum {
	AS_WANTED = 1 << 0,    /* offered for merging */
	AS_ADVISED = 1 << 1,   /* by an explicit MADV_MERGEABLE, not by a policy */
	AS_UNSHARING = 1 << 2, /* being withdrawn: the agent merges nothing meanwhile */
	AS_DONTFORK = 1 << 3,  /* not in children */
	AS_DONTDUMP = 1 << 4,  /* not in core dumps */
	AS_UNSEEN = 1 << 5,    /* its being shared is a guess: as_unseen.h */
	AS_LENT = 1 << 6,      /* left out for the length of a call: ops_advise.c */
	AS_POLICY = 0xff << 8, /* times 1 << AS_POLICY_SHIFT: number of its NUMA policy, or 0 */
};
#define AS_POLICY_SHIFT 8

/*
 * Invariant: start < end, both page aligned; two neighbours that touch differ in an attribute. What
 * a mapping of the range was told (AS_DONTFORK and so on) holds for each that takes its place:
 * as_advice.h.
 */
struct as_range {
	uint64_t start, end;
	uint8_t prot;      /* PROT_* */
	uint16_t flags;    /* AS_* */
	uint16_t left_out; /* bit set of 1 << enum ksm_left_out */
	uint8_t name;      /* that the program gave it, or 0: as_name_number() */
};

static inline struct span as_span(const struct as_range *r)
{
	return (struct span){ r->start, r->end };
}

/* May pages of this range be merged? */
static inline bool as_offered(const struct as_range *r)
{
	return (r->flags & (AS_WANTED | AS_UNSHARING)) == AS_WANTED && !r->left_out;
}

/*
 * The first range that ends behind addr, and the one behind a range; NULL: there is none. What
 * these three return is valid until the table changes, for which as_reserve() is enough.
 */
struct as_range *as_first(uint64_t addr) NEEDS(as.lock);
struct as_range *as_next(const struct as_range *r) NEEDS(as.lock);
/* The range that holds addr, or NULL. */
const struct as_range *as_range_at(uint64_t addr) NEEDS(as.lock);
/* Is any part of [start, end) known? Is all of it? */
bool as_knows(uint64_t start, uint64_t end) NEEDS(as.lock);
bool as_covers(uint64_t start, uint64_t end) NEEDS(as.lock);

/* Replace what is known of [start, end). Returns 0, or -ENOMEM: nothing has changed. */
int as_set(uint64_t start, uint64_t end, uint8_t prot, uint16_t flags, uint16_t left_out)
	NEEDS(as.lock);
/* The same, with all that is known of r. */
int as_put(uint64_t start, uint64_t end, struct as_range r) NEEDS(as.lock);
/* As as_set(), for the parts of it that are not known yet. 0, or -ENOMEM: a part was done. */
int as_fill(uint64_t start, uint64_t end, uint8_t prot, uint16_t flags, uint16_t left_out)
	NEEDS(as.lock);
/* Forget what is known of [start, end); without memory, all of the ranges that it touches. */
void as_clear(uint64_t start, uint64_t end) NEEDS(as.lock);
/* Call fn for each known part of [start, end), then coalesce. Returns 0, or -ENOMEM: not called. */
int as_edit(uint64_t start, uint64_t end, void (*fn)(struct as_range *r, long arg), long arg)
	NEEDS(as.lock);
/* Make room for `more` entries: edits that add no more cannot fail. Returns 0 or -ENOMEM. */
int as_reserve(size_t more) NEEDS(as.lock);

/* Make the table, unless there is one. Returns 0 or -ENOMEM. Context: the first call. */
int as_ranges_init(void);
/* Forget everything, also what an edit that never ended has left. */
void as_ranges_empty(void) NEEDS(as.lock);
/* Call fn for each piece of memory that the table itself lies in. */
void as_ranges_own(void (*fn)(void *arg, const void *p, size_t len), void *arg) NEEDS(as.lock);

#endif
