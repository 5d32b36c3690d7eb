/* SPDX-License-Identifier: MIT */
/* ops_learn.h - learn from the kernel of memory that the program mapped by itself. */
#ifndef KSM_OPS_LEARN_H
#define KSM_OPS_LEARN_H

#include <stdbool.h>
#include <stdint.h>

#include "client/as.h"

struct offer_ctx {
	uint64_t start, end, at;
	bool gap, nomem;
};

/*
 * Learn what is not known of [start, end). The table must not move meanwhile: it might be learned
 * where it is no more.
 */
void ops_learn(struct offer_ctx *c) NEEDS(as.lock);

#endif
