/* SPDX-License-Identifier: MIT */
/* session_answer.h - a client says what became of an order (ORDER_DONE). */
#ifndef KSMD_SESSION_ANSWER_H
#define KSMD_SESSION_ANSWER_H

#include "daemon/session.h"

void session_answer(struct session *s, const union ksm_msg *msg);
/* Drop those that lie about their merges. */
void session_answer_liars(struct clients *c);

#endif
