/* SPDX-License-Identifier: MIT */
/*
 * exclusive.h - pages that processes of a fork have shared, which UFFDIO_MOVE refuses.
 *
 * Sets have a bit for each page of an order's block (pageset.h). All are the agent's.
 */
#ifndef KSM_EXCLUSIVE_H
#define KSM_EXCLUSIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "client/as.h"
#include "client/kit.h"

/*
 * Read the page map's entries of `pages` pages from addr. False: it cannot be read. Then the
 * entries are 0, as those of pages that are not there.
 */
bool exclusive_pagemap(const struct kit *k, uint64_t addr, unsigned int pages, uint64_t *entry);
/* Which pages of the set are present, private, and mapped by another process as well? */
uint64_t exclusive_shared(const struct kit *k, const struct ksm_msg_order *m, uint64_t set);
/* Which of these are the kernel's zero page? It looks shared, and there is nothing to gain. */
uint64_t exclusive_zeros(const struct kit *k, const struct ksm_msg_order *m, uint64_t set);
/*
 * Have the kernel make those refused pages exclusive that this process alone maps and that look
 * equal to their frames. Returns the pages that are worth another try.
 */
uint64_t exclusive_make(const struct kit *k, const struct ksm_msg_order *m, uint64_t refused)
	NEEDS(as.lock);
/* Pages that were refused (result[]) shall not look as if the program had written them. */
void exclusive_arm(const struct kit *k, const struct ksm_msg_order *m, const uint8_t *result);

#endif
