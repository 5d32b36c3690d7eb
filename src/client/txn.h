/* SPDX-License-Identifier: MIT */
/* txn.h - carry out an order of the daemon. */
#ifndef KSM_TXN_H
#define KSM_TXN_H

#include <stdint.h>

#include "client/kit.h"

/*
 * Replace the pages of the order by their frames and fill result[] with enum ksm_res. `newest` is
 * the number of the newest range message that was sent: an order made before it is stale and
 * changes nothing. Context: the agent; takes the lock of as.h for the whole order, which may last
 * some 100 us and never waits for the daemon.
 */
void txn_execute(struct kit *k, const struct ksm_msg_order *m, uint64_t newest,
		 uint8_t result[KSM_ORDER_PAGES]);

#endif
