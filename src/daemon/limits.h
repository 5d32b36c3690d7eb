/* SPDX-License-Identifier: MIT */
/* limits.h - how much there is of what users share, found at the start. */
#ifndef KSMD_LIMITS_H
#define KSMD_LIMITS_H

#include <stdint.h>

#include "daemon/account.h"

/* Bytes of memory that this process may use: the machine's, or those of its memory cgroup. */
uint64_t limits_memory(void);
/* Set the limits that follow from the number of descriptors that this process may open. */
void limits_set_descriptors(struct account_table *t);

#endif
