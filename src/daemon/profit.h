/* SPDX-License-Identifier: MIT */
/* profit.h - bytes that merging saves, less everything that it costs. */
#ifndef KSMD_PROFIT_H
#define KSMD_PROFIT_H

#include <stdint.h>

#include "base/kernel_cost.h"
#include "wire/abi.h"

/* pages: those that need no memory of their own. added_vmas: mappings that merging made. */
static inline int64_t profit_bytes(uint64_t pages, uint64_t metadata_bytes, uint64_t added_vmas)
{
	return (int64_t)(pages * KSM_PAGE_SIZE) - (int64_t)metadata_bytes -
	       (int64_t)(added_vmas * KERNEL_VMA_BYTES);
}

#endif
