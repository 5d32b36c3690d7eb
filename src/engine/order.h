/* SPDX-License-Identifier: MIT */
/* order.h - orders: when the daemon sends them, and what becomes of them. */
#ifndef KSM_ORDER_H
#define KSM_ORDER_H

#include "engine/core.h"

/*
 * Send an order for what is ready in a block, without waiting for more of it. False: some of it
 * has to wait, because an order is under way, a worker looks at it, or the client takes no more.
 */
bool order_now(struct mm_slot *mm, uint32_t bi) NEEDS(mm->e->lock);

#endif
