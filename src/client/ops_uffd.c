/* SPDX-License-Identifier: MIT */
/*
 * ops_uffd.c - a program's own userfaultfd.
 *
 * A mapping can be in one userfaultfd at a time, and offered memory is in the agent's, which tracks
 * changes: the program would get EBUSY. So the range is un-shared, taken out of the agent's
 * and left out, until the program takes it out of its own. (Where it only closes that, the library
 * does not see it, and the range stays out.)
 */
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include "client/as.h"
#include "client/client.h"
#include "client/sysc.h"
#include "client/user.h"

long ksmc_ioctl(int fd, unsigned long request, void *arg)
{
	/* Both structures begin with the range. */
	bool enters = request == UFFDIO_REGISTER, leaves = request == UFFDIO_UNREGISTER;
	struct uffdio_range *range = arg;
	void *start;
	size_t len;
	long r;

	if ((!enters && !leaves) || !atomic_load_explicit(&as.active, memory_order_relaxed) ||
	    !user_range(range, sizeof(*range)))
		return sysc3(SYS_ioctl, fd, request, arg);
	start = (void *)(uintptr_t)range->start;
	len = range->len;
	if (!len || (uintptr_t)start + len < len)
		return sysc3(SYS_ioctl, fd, request, arg);
	r = enters ? ksmc_exclude(start, len, KSM_LEFT_UFFD) : 0;
	if (r)
		return r;
	r = sysc3(SYS_ioctl, fd, request, arg);
	if (enters ? r != 0 : r == 0)
		ksmc_include(start, len, KSM_LEFT_UFFD);
	return r;
}
