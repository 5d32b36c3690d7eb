/* SPDX-License-Identifier: MIT */
/* stretches.h - the pages of some orders, while threads wait for those that are out. */
#ifndef KSM_STRETCHES_H
#define KSM_STRETCHES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/span.h"
#include "client/as.h"
#include "client/kit.h"

#define STRETCHES_ORDERS 8u /* the most that are carried out together */

/*
 * Pages of the block of one order. Invariants: first and mapped are parts of pages; a stretch
 * reaches from one page of first to the next. No stretch reaches over two ranges of the table.
 */
struct order_pages {
	const struct ksm_msg_order *m;
	uint8_t *result; /* of every page of the order */
	uint64_t pages;  /* to be replaced */
	uint64_t first;  /* of each stretch */
	uint64_t mapped; /* replaced by frames: the mapping that had joined is gone */
};

/*
 * The orders that are carried out together, in order of their addresses. Invariant: each page to be
 * replaced lies in one of the spans, and so do small gaps between them.
 */
struct stretches {
	const struct kit *k;
	struct order_pages of[STRETCHES_ORDERS];
	unsigned int nr, nr_joined;
	/* In the synchronous userfaultfd. An order has no more runs than half its pages. */
	struct span joined[STRETCHES_ORDERS * KSM_ORDER_PAGES / 2];
};

/*
 * Take one more order in: its pages of `mask`, which are offered private memory. What is not to be
 * replaced gets a result.
 */
void stretches_add(struct stretches *s, const struct ksm_msg_order *m, uint64_t mask,
		   uint8_t *result) NEEDS(as.lock);

/*
 * Take the pages of all orders out of change tracking and into the synchronous userfaultfd. Pages
 * that cannot be get a result, and are in `pages` no more.
 */
void stretches_join(struct stretches *s) NEEDS(as.lock);

/* Find the next run of pages of `set`, at or after *from, of one stretch. False: there is none. */
bool stretches_next(const struct order_pages *of, uint64_t set, unsigned int *from,
		    unsigned int *to);

/* Take all out of the synchronous userfaultfd, and have the threads that wait go on. */
void stretches_leave(const struct stretches *s) NEEDS(as.lock);

/* Have changes of them tracked again. */
void stretches_track(const struct stretches *s) NEEDS(as.lock);

#endif
