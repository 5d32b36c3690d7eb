/* SPDX-License-Identifier: MIT */
/* replace.h - replace private pages by frames. */
#ifndef KSM_REPLACE_H
#define KSM_REPLACE_H

#include <stdint.h>

#include "client/as.h"
#include "client/kit.h"

/*
 * Replace pages of nr orders, up to STRETCHES_ORDERS of them and in order of their addresses, by
 * their frames. mask[]: which pages of each, all of them offered private memory; they get their
 * results in done[]. Returns how many of the orders are carried out, one at least: a thread of the
 * program that wants the lock waits for one, and no more. Context: between staging_open() and
 * staging_close().
 */
unsigned int replace_private(const struct kit *k, const struct ksm_msg_order *m, unsigned int nr,
			     const uint64_t *mask, struct ksm_msg_order_done *done) NEEDS(as.lock);

#endif
