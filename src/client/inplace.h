/* SPDX-License-Identifier: MIT */
/* inplace.h - the part of an order that lies in mappings of frames already. */
#ifndef KSM_INPLACE_H
#define KSM_INPLACE_H

#include <stdint.h>

#include "client/as.h"
#include "client/kit.h"

/*
 * Replace the pages of mask[] of orders for blocks that follow each other: of the first one, and of
 * those behind it that are one run with it. All of the pages lie in mappings of frames. On entry
 * their results are KSM_RES_GONE; pages that are not replaced keep that or get their reason.
 * Returns how many orders are dealt with, one at least.
 */
unsigned int inplace_execute(const struct kit *k, const struct ksm_msg_order *m, unsigned int nr,
			     const uint64_t *mask, struct ksm_msg_order_done *done) NEEDS(as.lock);

#endif
