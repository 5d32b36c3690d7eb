/* SPDX-License-Identifier: MIT */
/* ops_learn.h - learn from the kernel of memory that the program mapped by itself. */
#ifndef KSM_OPS_LEARN_H
#define KSM_OPS_LEARN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/span.h"
#include "client/as.h"

/* The span to learn, and what came of it. */
struct learned {
	struct span span;
	uint64_t end; /* memory is mapped up to here; span.start at first */
	bool gap;     /* some of it before `end` is not mapped */
	bool nomem;
	bool shared; /* in: take shared memory in as left out, which is counted then */
};

/*
 * Learn from the kernel what is not known of l->span, where that memory may be merged. The table
 * must not be moved meanwhile: it might be learned where it no longer is. So it grows first. Where
 * the kernel cannot be asked (no /proc, no free descriptor) the rest of the span is left out.
 */
void ops_learn(struct learned *l) NEEDS(as.lock);

#endif
