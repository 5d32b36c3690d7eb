/* SPDX-License-Identifier: MIT */
/*
 * bell.h - how threads wake each other.
 *
 * A bell belongs to one thread. Anybody may ring it, from any context, with bits that say what for;
 * the owner answers all bits that were rung since its last answer. The bits are the owner's: it
 * needs to know nobody who rings, and whoever rings needs to know of the owner nothing but its
 * bits.
 *
 * Promise: what a thread did before it rang, the owner sees when it answers.
 */
#ifndef KSMD_BELL_H
#define KSMD_BELL_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/loop.h"

/* Invariant: event is readable, or about to be, whenever rung is not 0. */
struct bell {
	int event; /* eventfd */
	_Atomic uint32_t rung;
	struct loop_watch watch;
	void (*answer)(struct bell *b, uint32_t bits);
};

/* Returns 0 or -errno. bell_deinit() may follow a failed bell_init(); nobody may ring any more. */
int bell_init(struct bell *b);
void bell_deinit(struct bell *b);
/* Any thread, any context; bits is not 0. A bell that is already ringing costs no system call. */
void bell_ring(struct bell *b, uint32_t bits);

/* The owner answers from its loop: answer(b, bits). Returns 0 or -errno. */
int bell_hang(struct bell *b, struct loop *l, void (*answer)(struct bell *b, uint32_t bits));
/*
 * An owner without a loop waits for the next ring, at most until due_ms (of clock_ms();
 * CLOCK_NEVER: no limit). Returns the bits, 0 when none came.
 */
uint32_t bell_wait(struct bell *b, uint64_t due_ms);

#endif
