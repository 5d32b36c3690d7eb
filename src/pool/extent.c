/* SPDX-License-Identifier: MIT */
/* extent.c - see extent.h. */
#include "pool/extent.h"

#include <stdlib.h>

struct extent *extent_new(void)
{
	return calloc(1, sizeof(struct extent));
}

void extent_free(struct extent *x)
{
	for (uint32_t b = 0; x && b < EXTENT_PAGEBLOCKS; b++)
		free(x->pb[b]);
	free(x);
}
