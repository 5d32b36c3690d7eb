/* SPDX-License-Identifier: MIT */
/* alloc.c - see alloc.h. */
#include "alloc.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

static unsigned int left;

unsigned int alloc_fail(unsigned int nth)
{
	unsigned int before = left;

	left = nth;
	return before;
}

static bool fails(void)
{
	if (!left || --left)
		return false;
	errno = ENOMEM;
	return true;
}

void *alloc_malloc(size_t size)
{
	return fails() ? NULL : malloc(size);
}

void *alloc_calloc(size_t nr, size_t size)
{
	return fails() ? NULL : calloc(nr, size);
}

void *alloc_realloc(void *p, size_t size)
{
	return fails() ? NULL : realloc(p, size);
}
