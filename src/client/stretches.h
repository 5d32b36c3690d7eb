/* SPDX-License-Identifier: MIT */
/* stretches.h - the pages of an order, while threads wait for those that are out. */
#ifndef KSM_STRETCHES_H
#define KSM_STRETCHES_H

#include <stdbool.h>
#include <stdint.h>

#include "client/as.h"
#include "client/kit.h"

/*
 * Sets of pages of the block of an order. Invariants: pages is part of joined, and first, too; a
 * stretch is a run of joined up to the next page of first. No stretch reaches over two ranges of
 * the table.
 */
struct stretches {
	const struct kit *k;
	const struct ksm_msg_order *m;
	uint64_t pages;  /* to be replaced */
	uint64_t joined; /* in the synchronous userfaultfd: those, and small gaps between them */
	uint64_t first;  /* of each stretch */
};

/*
 * Take the pages of `mask`, which are offered private memory, out of change tracking and into the
 * synchronous userfaultfd. Pages that cannot be get a result, and are in no stretch.
 */
void stretches_join(struct stretches *s, const struct kit *k, const struct ksm_msg_order *m,
		    uint64_t mask, uint8_t *result) NEEDS(as.lock);

/* Find the next run of pages of `set`, at or after *from, of one stretch. False: there is none. */
bool stretches_next(const struct stretches *s, uint64_t set, unsigned int *from, unsigned int *to);

/*
 * Take the stretches out of the synchronous userfaultfd, and have the threads that wait go on.
 * Where frames are `mapped`, the mapping that was in it is gone.
 */
void stretches_leave(const struct stretches *s, uint64_t mapped) NEEDS(as.lock);

/* Have changes of them tracked again. */
void stretches_track(const struct stretches *s) NEEDS(as.lock);

/* Wake the threads that wait for pages from `from` up to `to`. */
void stretches_wake(const struct stretches *s, unsigned int from, unsigned int to);

#endif
