/* SPDX-License-Identifier: MIT */
/* staging.h - the area in which pages are while they are out of the program. */
#ifndef KSM_STAGING_H
#define KSM_STAGING_H

#include <stdbool.h>
#include <stdint.h>

#include "client/kit.h"

/* Begin a transaction. False: the area cannot be had, and no page may be moved. */
bool staging_open(const struct kit *k);
/* End it. Whatever is in the area is lost. */
void staging_close(const struct kit *k);
/* The pages of the block that are in the area, in their places there. */
uint64_t staging_pages(const struct kit *k);
/*
 * Move pages from src to dst; one of the two is in the area, the other one in memory that is
 * registered in k->uffd_sync. Nobody is woken. Returns 0; or -errno of UFFDIO_MOVE, and
 * staging_pages() says how far it came.
 */
long staging_move(const struct kit *k, uint64_t dst, uint64_t src, unsigned int pages);

#endif
