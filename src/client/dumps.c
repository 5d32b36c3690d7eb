/* SPDX-License-Identifier: MIT */
/*
 * dumps.c - see dumps.h.
 *
 * What is dumped is chosen by /proc/PID/coredump_filter (core(5)): private anonymous memory by one
 * bit, private memory of files by another. A mapping of frames is both to the kernel: a file's, and
 * with an anon_vma (aside.c). So it is dumped where either bit is set. Where only the second is the
 * memory would not have been dumped, and mappings of frames are MADV_DONTDUMP (as.hide_frames).
 *
 * The filter is inherited, and seldom changed afterwards. So the agent looks when it connects and
 * when merging has come to a rest.
 */
#include "client/dumps.h"

#include <sys/mman.h>

#include "client/as_advice.h"
#include "client/as_frames.h"
#include "client/as_ranges.h"
#include "client/io.h"

/* Bits of the filter: core(5). */
#define ANON_PRIVATE 1u
#define FILE_PRIVATE 4u

static bool frames_alone(void)
{
	char buf[32] = "";
	unsigned int filter = 0;

	if (io_slurp("/proc/self/coredump_filter", buf, sizeof(buf)) <= 0)
		return false;
	for (const char *p = buf; (*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'f'); p++)
		filter = filter << 4 | (unsigned int)(*p <= '9' ? *p - '0' : *p - 'a' + 10);
	return (filter & (ANON_PRIVATE | FILE_PRIVATE)) == FILE_PRIVATE;
}

/* Advise [start, end), where frames stand, range by range. */
static void advise(uint64_t start, uint64_t end) NEEDS(as.lock)
{
	for (uint64_t stop; start < end; start = stop) {
		const struct as_range *r = as_range_at(start);

		stop = r && r->end < end ? r->end : end;
		as_repeat(start, stop, as_hides_frames(r) ? MADV_DONTDUMP : MADV_DODUMP);
	}
}

void dumps_look(void)
{
	bool hide = frames_alone();
	uint64_t start = 0, end;

	as_agent_lock();
	if (hide != as.hide_frames) {
		as.hide_frames = hide;
		for (; as_frames_next(&start, &end, KSM_ADDR_END); start = end)
			advise(start, end);
	}
	as_unlock();
}
