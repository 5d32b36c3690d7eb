/* SPDX-License-Identifier: MIT */
/*
 * session_order.h - the orders that a client has been given.
 *
 * The scan thread and its helpers send them, the client thread takes the answers. An order carries
 * the number of the last address space change that the engine knew of, so orders and numbers must
 * leave in step: send_lock.
 */
#ifndef KSMD_SESSION_ORDER_H
#define KSMD_SESSION_ORDER_H

#include "daemon/session.h"

/*
 * For engine_ops.send_order: the engine fills id, addr and frame[]. Any thread. 0, -EAGAIN or
 * -errno.
 */
int session_send_order(void *client, struct ksm_msg_order *order);
/* For engine_ops.give_back. The same. */
int session_give_back(void *client, uint64_t addr, uint64_t mask);
/* These pages of an order are said to be merged. */
void session_order_claim(struct session *s, uint32_t id, uint64_t mask) NEEDS_NOT(s->send_lock);
/*
 * For workers: look at the claims that wait, and have a liar dropped. It waits for the client's
 * mmap_lock.
 */
void session_order_check(struct session *s) NEEDS_NOT(s->send_lock);
/* Is it a liar? *lies of *checked pages were not as it said. */
bool session_order_lies(struct session *s, uint32_t *lies, uint32_t *checked)
	NEEDS_NOT(s->send_lock);
/* An order was answered: the client is alive. */
void session_order_answered(struct session *s);

#endif
