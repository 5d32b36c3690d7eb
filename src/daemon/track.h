/* SPDX-License-Identifier: MIT */
/*
 * track.h - what another process has written, and its bytes, by descriptors it gave us.
 *
 * Any thread; no locks. A descriptor keeps naming the address space it was opened for, even when
 * that process is gone and its number reused.
 */
#ifndef KSMD_TRACK_H
#define KSMD_TRACK_H

#include <stdint.h>
#include <sys/types.h>

#include "engine/engine.h"

/*
 * See engine_ops.track: runs of present pages written since the last call, re-armed. Returns their
 * number, or -errno.
 */
int track_written(int pagemap, uint64_t start, uint64_t end, enum track_how how,
		  struct track_range *v, int max, uint64_t *walk_end);
/* See engine_ops.written: the same without arming. */
int track_peek(int pagemap, uint64_t start, uint64_t end, struct track_range *v, int max,
	       uint64_t *walk_end);
/* See engine_ops.look. */
int track_look(int pagemap, uint64_t start, uint64_t end, struct track_range *v, int max);
/*
 * Runs of present pages that are tracked and were not written since they were reported. Returns
 * their number, or -errno; *walk_end is how far it looked.
 */
int track_clean(int pagemap, uint64_t start, uint64_t end, struct track_range *v, int max,
		uint64_t *walk_end);
/*
 * Which of the `claimed` pages of the block at addr are present as private memory and were not
 * written since they were last scanned? Those are plainly neither mapped from a file nor given
 * back, nor private again by now. Returns the bit mask, 0 when the kernel does not tell.
 */
uint64_t track_private_pages(int pagemap, uint64_t addr, uint64_t claimed);
/* As pread(2) from the address space: short at the first page that cannot be read; or -errno. */
ssize_t track_read(int mem, uint64_t addr, void *buf, size_t len);

#endif
