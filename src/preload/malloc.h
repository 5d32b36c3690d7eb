/* SPDX-License-Identifier: MIT */
/* malloc.h - the C library's malloc takes its memory from the main heap, which can be offered. */
#ifndef KSM_PRELOAD_MALLOC_H
#define KSM_PRELOAD_MALLOC_H

/* In the constructor, before anything else of this file. */
void malloc_resolve(void);
/* From now on malloc takes memory from the main heap alone, and never gives it back. */
void malloc_keep_in_heap(void);
/*
 * Offer the main heap, what was added to it since malloc_resolve() included. With malloc as it is
 * (preload.native_malloc) nothing is offered. Context: no lock of malloc's held.
 */
void malloc_offer_heap(void);

#endif
