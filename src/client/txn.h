/* SPDX-License-Identifier: MIT */
/* txn.h - carry out an order of the daemon. */
#ifndef KSM_TXN_H
#define KSM_TXN_H

#include <stdint.h>

#include "client/kit.h"
#include "client/stretches.h"

/* Orders of so much weight together, and so many of them, hold others up for half a millisecond. */
#define TXN_ORDERS STRETCHES_ORDERS
#define TXN_WEIGHT 128u

/* How long an order takes, in units of some 3 us. */
unsigned int txn_weight(const struct ksm_msg_order *m);

/*
 * Replace the pages of nr orders by their frames and fill the results of done[] with enum ksm_res.
 * The orders, up to TXN_ORDERS, are for blocks that follow each other. `newest` is the number of
 * the newest range message that was sent: an order made before it is stale and changes nothing.
 * Context: the agent; takes the lock of as.h for several orders, each of which may last some 100 us
 * and none of which waits for the daemon. A program thread that wants the lock gets it between two.
 */
void txn_execute(struct kit *k, const struct ksm_msg_order *m, unsigned int nr, uint64_t newest,
		 struct ksm_msg_order_done *done);

#endif
