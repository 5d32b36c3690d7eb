/* SPDX-License-Identifier: MIT */
/*
 * lock.c - one ksm-bench at a time on a machine.
 *
 * Two that measure at once disturb each other, and would each take the knobs that the other has
 * changed for the operator's. /tmp serves users who may not write to /run/lock.
 */
#include "lock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>

#include "file.h"
#include "message.h"
#include "stop.h"

int bench_lock(void)
{
	static const char *const dirs[] = { "/run/lock", "/tmp" };
	char path[512];
	int fd = -1;

	for (int i = 0; i < 2 && fd < 0; i++)
		fd = open(file_of_machine(dirs[i], "ksm-bench.lock", path, sizeof(path)),
			  O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
	if (fd < 0) {
		int err = -errno;

		complain("%s: %s", path, strerror(-err));
		return err;
	}
	if (!flock(fd, LOCK_EX | LOCK_NB))
		return 0;
	complain("another ksm-bench is at work; waiting for it");
	if (flock(fd, LOCK_EX))
		return bench_stop ? -EINTR : -errno;
	return 0;
}
