/* SPDX-License-Identifier: MIT */
/* ops_withdraw.h - memory is withdrawn: in the end no page of it stands on a frame. */
#ifndef KSM_OPS_WITHDRAW_H
#define KSM_OPS_WITHDRAW_H

#include <stdint.h>

#include "client/as.h"

/*
 * Withdraw known parts of [start, end) (why < 0), or leave them alone for a reason (enum
 * ksm_left_out). Returns 0 or -ENOMEM.
 */
long ops_withdraw(uint64_t start, uint64_t end, int why);
/* ops_enter(), when nothing in [start, end) is being withdrawn. */
void ops_enter_settled(struct as_guard *g, uint64_t start, uint64_t end) TAKES(as.lock);

#endif
