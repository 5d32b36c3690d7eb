/* SPDX-License-Identifier: MIT */
/*
 * io.h - read files without the C library: whole ranges, and small files of /proc.
 *
 * Both leave errno alone and never allocate, as they run inside other people's programs.
 */
#ifndef KSM_IO_H
#define KSM_IO_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/sysc.h"

/* Read all len bytes at off. False: an error, or the end of the file. */
static inline bool io_pread_all(int fd, void *dst, size_t len, uint64_t off)
{
	size_t have = 0;

	while (have < len) {
		long n = sysc4(SYS_pread64, fd, (uint8_t *)dst + have, len - have, off + have);

		if (n == -EINTR)
			continue;
		if (n <= 0)
			return false;
		have += (size_t)n;
	}
	return true;
}

/* Read the first size - 1 bytes of a file and terminate them. Returns how many, or -errno. */
static inline long io_slurp(const char *path, char *buf, size_t size)
{
	long fd = sysc4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	long n;

	if (fd < 0)
		return fd;
	n = sysc3(SYS_read, fd, buf, size - 1);
	sysc1(SYS_close, fd);
	if (n < 0)
		return n;
	buf[n] = '\0';
	return n;
}

#endif
