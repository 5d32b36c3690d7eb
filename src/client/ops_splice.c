/* SPDX-License-Identifier: MIT */
/* ops_splice.c - vmsplice. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>

#include "client/as_ranges.h"
#include "client/client.h"
#include "client/ops.h"
#include "client/ops_process.h"
#include "client/sysc.h"
#include "client/user.h"

/* Nothing left to do for a range that was left alone for this reason before? */
static bool is_left_alone(uint64_t start, uint64_t end, enum ksm_left_out reason)
{
	struct as_guard g;
	bool all = true;

	ops_enter(&g);
	for (size_t i = as_find(start); all && start < end; i++) {
		all = i < as.nr && as.range[i].start <= start &&
		      (as.range[i].left_out & 1u << reason) && !(as.range[i].flags & AS_UNSHARING);
		start = all ? as.range[i].end : end;
	}
	as_leave(&g);
	return all;
}

static long leave_spliced(const struct iovec *iov)
{
	uint64_t start = (uintptr_t)iov->iov_base & ~(uint64_t)(KSM_PAGE_SIZE - 1);
	uint64_t end = page_up((uintptr_t)iov->iov_base + iov->iov_len);

	if (!iov->iov_len || end <= start || end > KSM_ADDR_END ||
	    is_left_alone(start, end, KSM_LEFT_SPLICED))
		return 0;
	return ksmc_exclude((void *)start, end - start, KSM_LEFT_SPLICED);
}

/*
 * Into a pipe goes a reference to the page, which is no pin (UFFDIO_MOVE does not see it): what the
 * program writes later would miss the reader. The kernel's own KSM leaves such a page alone, by its
 * reference count. Out of a pipe (its reading end) bytes are copied.
 */
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
