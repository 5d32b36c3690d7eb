/* SPDX-License-Identifier: MIT */
/* ops_discard.h - advice that throws contents away. */
#ifndef KSM_OPS_DISCARD_H
#define KSM_OPS_DISCARD_H

#include <stdint.h>
#include <sys/mman.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */
#endif

/* DONTNEED, FREE and guards: frames in the range become fresh zeros. Returns as madvise(2) does. */
long ops_discard(uint64_t start, uint64_t end, int advice);

#endif
