/* SPDX-License-Identifier: MIT */
/* rejoin.h - frames that alternate with private pages become one mapping of private memory. */
#ifndef KSM_REJOIN_H
#define KSM_REJOIN_H

#include <stdint.h>

#include "client/headroom.h"
#include "client/kit.h"

/*
 * Put one new anonymous mapping in the place of pages [from, to) of the block at `block`, which
 * keep their contents: copies of the frames, and the private pages between them. The daemon is told
 * to forget the range. Returns 0; -EBUSY: a device or another process may be using a private page,
 * or a thread is about to end; -ENOMEM: there is no room; -EINVAL: it is not all offered, or was
 * mapped anew. Then all is as it was, and may be tried again. Takes the lock of as.h, once. No
 * descriptor of the kit is missing. Context: the agent.
 */
int rejoin(const struct kit *k, uint64_t block, unsigned int from, unsigned int to,
	   struct headroom *room);

#endif
