/* SPDX-License-Identifier: MIT */
/* hash.h - a page's content as 56 bits. */
#ifndef KSM_HASH_H
#define KSM_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HASH_SPARE 0xffu /* bits that are 0 in every hash */

/* Hash of KSM_PAGE_SIZE bytes; the bits of HASH_SPARE are 0. */
uint64_t page_hash(const void *page, uint64_t seed);
/* All 64 bits, of any bytes. */
uint64_t bytes_hash(const void *bytes, size_t nr, uint64_t seed);
bool page_is_zero(const void *page);

#endif
