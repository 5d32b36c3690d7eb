/* SPDX-License-Identifier: MIT */
/* profit.h - bytes that merging saves, less everything that it costs. */
#ifndef KSMD_PROFIT_H
#define KSMD_PROFIT_H

#include <stdint.h>

#include "wire/abi.h"

/*
 * The kernel's memory for one more mapping: struct vm_area_struct (about 200 bytes in Linux 6.12)
 * and its share of a maple tree node (16 slots in 256 bytes, two thirds full).
 */
#define VMA_BYTES 232
#define VMA_BYTES_TEXT "232" /* in help texts */
_Static_assert(VMA_BYTES == 232, "VMA_BYTES_TEXT says so");

/* pages: those that need no memory of their own. added_vmas: mappings that merging made. */
static inline int64_t profit_bytes(uint64_t pages, uint64_t metadata_bytes, uint64_t added_vmas)
{
	return (int64_t)(pages * KSM_PAGE_SIZE) - (int64_t)metadata_bytes -
	       (int64_t)(added_vmas * VMA_BYTES);
}

#endif
