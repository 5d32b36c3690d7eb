/* SPDX-License-Identifier: MIT */
/*
 * alloc.h - have an allocation of the code under test fail, and of no other. The build renames what
 * that code calls (Makefile). For tests with one thread; with more, none must be asked to fail.
 */
#ifndef UNIT_ALLOC_H
#define UNIT_ALLOC_H

#include <stddef.h>

/*
 * The nth allocation from here on fails, once; 0: none does. Returns how many were left until then:
 * 0 when it came, or was not asked for.
 */
unsigned int alloc_fail(unsigned int nth);

/* In place of the C library's. */
void *alloc_malloc(size_t size);
void *alloc_calloc(size_t nr, size_t size);
void *alloc_realloc(void *p, size_t size);

#endif
