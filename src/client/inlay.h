/* SPDX-License-Identifier: MIT */
/* inlay.h - private pages become part of a mapping of frames, so that it need not end there. */
#ifndef KSM_INLAY_H
#define KSM_INLAY_H

#include <stdbool.h>
#include <stdint.h>

#include "client/kit.h"

/* Before an order, without the lock: look whether pages may be inlaid, if it wants that. */
void inlay_look(struct kit *k, const struct ksm_msg_order *m);
/* As that look found. No: they would lose the kernel's test for pins, and the process has means. */
bool inlay_may(const struct kit *k);
/*
 * Copy pages `set` of the order, which are in the staging area, to the same places of a mapping
 * made aside, in which page 0 of the order would stand at `at`. It is registered for missing pages
 * and has none of these. False: it may have some of them now.
 */
bool inlay_copy(const struct kit *k, uint64_t at, uint64_t set);

#endif
