/* SPDX-License-Identifier: MIT */
/*
 * ops_name.c - prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME).
 *
 * The kernel names private anonymous memory, and answers EBADF where a mapping is a file's, as
 * those of frames are. The program asked for its memory and hears that it is done; what stands on
 * no frames gets the name. Frames have none and are counted, and memory that takes their place
 * later gets it (as_names.h).
 */
#include <errno.h>

#include "base/span.h"
#include "client/as_frames.h"
#include "client/as_names.h"
#include "client/client.h"
#include "client/ops.h"
#include "client/sysc.h"
#include "wire/kernel_abi.h"

static long name(uint64_t start, uint64_t end, const char *to)
{
	return sysc5(SYS_prctl, KABI_PR_SET_VMA, KABI_PR_SET_VMA_ANON_NAME, start, end - start, to);
}

/*
 * Name what lies between frames, in the order of addresses, up to *end; a gap is an error in the
 * end. *end becomes where it stopped.
 */
static long name_parts(uint64_t start, uint64_t *end, const char *to) NEEDS(as.lock)
{
	long gap = 0;

	while (start < *end) {
		uint64_t run = start, run_end = *end;
		long r = 0;

		if (!as_frames_next(&run, &run_end, *end))
			run = run_end = *end;
		if (run > start)
			r = name(start, run, to);
		if (r && r != -ENOMEM) {
			*end = start;
			return r;
		}
		if (r)
			gap = r;
		start = run_end;
	}
	return gap;
}

long ksmc_name(void *addr, size_t len, const char *to)
{
	uint64_t start = (uintptr_t)addr, end = page_up(start + len);
	struct as_guard g;
	long r = name(start, start + len, to);

	if ((r && r != -EBADF && r != -ENOMEM) || end <= start ||
	    !atomic_load_explicit(&as.active, memory_order_relaxed))
		return r;
	ops_enter(&g);
	if (r == -EBADF)
		r = name_parts(start, &end, to);
	as_name_set(start, end, to);
	ops_leave(&g, false);
	return r;
}

void ksmc_name_no_more(void)
{
	atomic_store(&as.names_forbidden, true);
}
