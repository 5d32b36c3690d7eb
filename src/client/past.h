/* SPDX-License-Identifier: MIT */
/* past.h - give frames of earlier daemons up. */
#ifndef KSM_PAST_H
#define KSM_PAST_H

#include <stdbool.h>
#include <stdint.h>

#include "wire/wire.h"

struct agent;

/* A connection to this arena begins. */
void past_begin(struct agent *a, uint64_t arena_ino, uint64_t now_ms);
/* The time has come to ask how many passes there were. False: the connection is broken. */
bool past_ask(struct agent *a, uint64_t now_ms);
/* An answer came. */
void past_answer(struct agent *a, const struct ksm_msg_stat_reply *m, uint64_t now_ms);

#endif
