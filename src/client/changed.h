/* SPDX-License-Identifier: MIT */
/* changed.h - memory that the program mapped anew behind the library's back: see changed.c. */
#ifndef KSM_CHANGED_H
#define KSM_CHANGED_H

#include <stdbool.h>
#include <stdint.h>

#include "client/as.h"
#include "client/kit.h"

/*
 * Does [start, end), which the table names, still have the mappings that the library knows? What
 * has not is left alone from now on: it is no range that may be offered, and stands on no frames.
 * True: all has. Where the kernel does not say, it is taken to have. Context: the agent, outside of
 * transactions.
 */
bool changed_look(const struct kit *k, uint64_t start, uint64_t end) NEEDS(as.lock);
/* The same where there is a suspicion: the kernel is asked for all mappings. */
bool changed_ask(const struct kit *k, uint64_t start, uint64_t end) NEEDS(as.lock);

#endif
