/* SPDX-License-Identifier: MIT */
/* ops_withdraw.h - memory is withdrawn: in the end no page of it stands on a frame. */
#ifndef KSM_OPS_WITHDRAW_H
#define KSM_OPS_WITHDRAW_H

#include <stdint.h>

#include "client/as.h"

/*
 * Withdraw the known parts of [start, end) (why < 0), or leave them out for a reason (enum
 * ksm_left_out). Returns 0, or -ENOMEM: some pages may still stand on frames. Context: a program
 * thread without the lock of as.h; it waits for the agent.
 */
long ops_withdraw(uint64_t start, uint64_t end, int why);
/* As ops_enter(), once no other thread is withdrawing any of [start, end). */
void ops_enter_unmarked(struct as_guard *g, uint64_t start, uint64_t end) TAKES(as.lock);

#endif
