/* SPDX-License-Identifier: MIT */
/* uffd.h - the two userfaultfds of a client: one tracks changes, one makes threads wait. */
#ifndef KSM_UFFD_H
#define KSM_UFFD_H

#include <stdint.h>

#include "base/span.h"
#include "client/as.h"
#include "client/kit.h"

/* Make those that the kit lacks, from the /dev/userfaultfd that the daemon sent. 0 or -errno. */
int uffd_open(struct kit *k, int dev);
/* Register [start, end) for UFFDIO_REGISTER_MODE_*. Returns 0 or -errno; a part may be done. */
int uffd_register(int uffd, uint64_t start, uint64_t end, uint64_t mode);
/* Take [start, end) out again. Returns 0 or -errno. */
int uffd_unregister(int uffd, uint64_t start, uint64_t end);
/* Take [start, end) out of uffd_sync, whatever that takes, and wake the threads that wait there. */
void uffd_release(const struct kit *k, uint64_t start, uint64_t end);
/* Wake the threads that wait in [start, end). */
void uffd_wake(int uffd, uint64_t start, uint64_t end);
/* Track every offered part of [start, end). */
void uffd_track(const struct kit *k, uint64_t start, uint64_t end) NEEDS(as.lock);
/* Take the parts of [start, end) out of tracking where the program has a userfaultfd of its own. */
void uffd_give_way(const struct kit *k, uint64_t start, uint64_t end) NEEDS(as.lock);
/*
 * Serve the forks that happened during a transaction, and return when none is under way. The child
 * inherited page tables in which the pages of `moved` (bit per page from addr) were missing; it
 * gets copies from `staging`.
 */
void uffd_serve_forks(const struct kit *k, uint64_t addr, uint64_t moved, const uint8_t *staging)
	NEEDS(as.lock);
/*
 * The same, while no page of the program is out; and threads go on that wait in `holes`, which may
 * be in uffd_sync, for a page that is not there. They find zeros.
 */
void uffd_serve(const struct kit *k, uint64_t addr, uint64_t moved, const uint8_t *staging,
		struct span holes) NEEDS(as.lock);

#endif
