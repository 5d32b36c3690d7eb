/* SPDX-License-Identifier: MIT */
/* pool.h - how frames lie: a map of the pageblocks of every domain and node. */
#ifndef KSMDCTL_POOL_H
#define KSMDCTL_POOL_H

#include <stdbool.h>

struct talk;

/* A row of characters for 64 pageblocks (128 MiB), or an image (SVG) on standard output. */
void cmd_pool(struct talk *c, bool svg);

#endif
