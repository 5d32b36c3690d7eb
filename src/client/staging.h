/* SPDX-License-Identifier: MIT */
/* staging.h - the area in which pages are while they are out of the program. */
#ifndef KSM_STAGING_H
#define KSM_STAGING_H

#include <stdbool.h>
#include <stdint.h>

#include "client/as.h"
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
/*
 * Move pages [from, to) of the block at `addr` back, all of which are in the area: *moved is the
 * set of those, and has none of them afterwards. Comes to an end whatever the program does to its
 * memory meanwhile; a page whose place is gone, or is another's by now, is dropped.
 */
void staging_return(const struct kit *k, uint64_t addr, uint64_t *moved, unsigned int from,
		    unsigned int to) NEEDS(as.lock);

#endif
