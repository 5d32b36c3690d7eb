/* SPDX-License-Identifier: MIT */
/* procdir.c - see procdir.h. Read by raw system calls: readdir(3) would allocate. */
#include "client/procdir.h"

#include <errno.h>
#include <fcntl.h>

#include "client/sysc.h"

struct dirent64 {
	uint64_t ino;
	int64_t off;
	uint16_t len;
	uint8_t type;
	char name[];
};

bool procdir_any(const char *dir, bool (*yes)(void *arg, const char *dir, const char *name),
		 void *arg)
{
	_Alignas(8) char buf[2048];
	long fd = sysc4(SYS_openat, AT_FDCWD, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	bool found = fd < 0 && fd != -ENOENT; /* -ENOENT: a thread that has ended */

	while (fd >= 0 && !found) {
		long n = sysc3(SYS_getdents64, fd, buf, sizeof(buf));

		found = n < 0 && n != -ENOENT;
		if (n <= 0)
			break;
		for (long at = 0; at < n && !found; at += ((struct dirent64 *)(buf + at))->len) {
			const char *name = ((struct dirent64 *)(buf + at))->name;

			found = name[0] != '.' && yes(arg, dir, name);
		}
	}
	if (fd >= 0)
		sysc1(SYS_close, fd);
	return found;
}

int32_t procdir_number(const char *s)
{
	int32_t v = 0;

	for (; *s >= '0' && *s <= '9'; s++)
		v = v * 10 + (*s - '0');
	return v;
}
