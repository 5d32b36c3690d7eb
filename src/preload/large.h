/* SPDX-License-Identifier: MIT */
/* large.h - large blocks of malloc have mappings of their own, as without us. */
#ifndef KSM_PRELOAD_LARGE_H
#define KSM_PRELOAD_LARGE_H

#include <stdbool.h>

/* In the constructor. */
void large_resolve(void);
/* Do the program's calls of malloc() come here and go on to the C library's? */
bool large_malloc_is_libc(void);
/* The C library maps no blocks itself any more: do it here, if malloc is the C library's. */
void large_begin(void);
/* From now on threads wait for each other in malloc() without a system call. */
void large_wait_by_turning(void);
/* mallopt() with M_MMAP_THRESHOLD, M_MMAP_MAX or M_TRIM_THRESHOLD. */
void large_mallopt(int param, int value);

#endif
