/* SPDX-License-Identifier: MIT */
/*
 * ops_splice.c - vmsplice.
 *
 * Into a pipe goes a reference to the page, which is no pin (UFFDIO_MOVE does not see it): what the
 * program writes later would miss the reader if the page were merged and broken in between. The
 * kernel's own KSM leaves such a page alone, by its reference count. This library leaves the range
 * out before it is given. A pipe's reading end is no danger, because bytes are copied out of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>

#include "client/as_ranges.h"
#include "client/client.h"
#include "client/ops.h"
#include "client/ops_process.h"
#include "client/sysc.h"
#include "client/user.h"

/* Is the whole range left out for this reason already, and not being withdrawn? */
static bool is_left_out(uint64_t start, uint64_t end, enum ksm_left_out reason)
{
	struct as_guard g;

	ops_enter(&g);
	while (start < end) {
		const struct as_range *r = as_range_at(start);

		if (!r || !(r->left_out & 1u << reason) || (r->flags & AS_UNSHARING))
			break;
		start = r->end;
	}
	as_leave(&g);
	return start >= end;
}

static long leave_spliced(const struct iovec *iov)
{
	uint64_t start = page_down((uintptr_t)iov->iov_base);
	uint64_t end = page_up((uintptr_t)iov->iov_base + iov->iov_len);

	if (!iov->iov_len || end <= start || end > KSM_ADDR_END ||
	    is_left_out(start, end, KSM_LEFT_SPLICED))
		return 0;
	return ksmc_exclude((void *)start, end - start, KSM_LEFT_SPLICED);
}

long ksmc_vmsplice(int fd, const struct iovec *iov, size_t nr, unsigned int flags)
{
	long mode = sysc3(SYS_fcntl, fd, F_GETFL, 0), r = 0;
	bool gives = mode >= 0 && (mode & O_ACCMODE) != O_RDONLY;

	if (ksmc_init() < 0)
		return -ENOMEM;
	if (gives && nr <= IOV_MAX && user_range(iov, nr * sizeof(*iov)))
		for (size_t i = 0; i < nr && !r; i++)
			r = leave_spliced(&iov[i]);
	return r ? r : sysc4(SYS_vmsplice, fd, iov, nr, flags);
}
