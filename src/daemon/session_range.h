/* SPDX-License-Identifier: MIT */
/*
 * session_range.h - a client changes its address space: it offers memory (ADD), takes it back
 * (DEL), writes over it (FORGET), or finds pages that already stand on frames (ADOPT).
 */
#ifndef KSMD_SESSION_RANGE_H
#define KSMD_SESSION_RANGE_H

#include "daemon/session.h"

struct clients;

/* The timer that goes on with changes too large for one turn. */
void session_range_init(struct clients *c);
void session_range_add(struct session *s, const union ksm_msg *msg);
void session_range_del(struct session *s, const union ksm_msg *msg);
void session_range_forget(struct session *s, const union ksm_msg *msg);
void session_range_adopt(struct session *s, const union ksm_msg *msg);

#endif
