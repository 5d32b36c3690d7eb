/* SPDX-License-Identifier: MIT */
/* ops_discard.h - advice that throws contents away: MADV_DONTNEED, FREE, guards. */
#ifndef KSM_OPS_DISCARD_H
#define KSM_OPS_DISCARD_H

#include <stdint.h>
#include <sys/mman.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */
#endif

/*
 * Carry out `advice`, and turn the frames in [start, end) into fresh zeros. Returns 0 or a negative
 * errno, as madvise(2) on anonymous memory: -EINVAL for locked memory, -ENOMEM for a gap.
 */
long ops_discard(uint64_t start, uint64_t end, int advice);

#endif
