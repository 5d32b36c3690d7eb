/* SPDX-License-Identifier: MIT */
/* inplace.h - the part of an order that lies in mappings of frames already. */
#ifndef KSM_INPLACE_H
#define KSM_INPLACE_H

#include <stdint.h>

#include "client/as.h"
#include "client/kit.h"

/*
 * Replace the pages of `mask` of the order, all of which lie in mappings of frames. On entry
 * result[] is KSM_RES_GONE there; pages that are not replaced keep that or get their reason.
 */
void inplace_execute(const struct kit *k, const struct ksm_msg_order *m, uint64_t mask,
		     uint8_t *result) NEEDS(as.lock);

#endif
