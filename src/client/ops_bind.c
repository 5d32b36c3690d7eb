/* SPDX-License-Identifier: MIT */
/*
 * ops_bind.c - mbind.
 *
 * A policy on a mapping of frames would be the arena's, and so everybody's. So the range is
 * un-shared first, the kernel hears of what stands on no frames, and the table keeps what policy
 * that is: memory that takes the place of a mapping later gets it again (as_advice.h). Pages that
 * broke copy-on-write and may be pinned stay where they are, without it. A policy that cannot be
 * kept leaves the range out.
 */
#include <errno.h>

#include "base/span.h"
#include "client/as_advice.h"
#include "client/as_frames.h"
#include "client/as_ranges.h"
#include "client/client.h"
#include "client/ops.h"
#include "client/sysc.h"

/* The arguments of mbind(2) after the range. */
struct policy {
	long mode, mask, maxnode, flags;
};

static long bind_raw(uint64_t start, uint64_t end, const struct policy *p)
{
	return sysc6(SYS_mbind, (long)start, (long)(end - start), p->mode, p->mask, p->maxnode,
		     p->flags);
}

/* *kept: the policy as the kernel shows it, AS_POLICY if it cannot be told. */
static long bind_parts(uint64_t start, uint64_t end, const struct policy *p, uint16_t *kept)
	NEEDS(as.lock)
{
	long r = 0;

	*kept = AS_POLICY;
	while (start < end && !r) {
		uint64_t run = start, run_end = end;

		if (!as_frames_next(&run, &run_end, end))
			run = run_end = end;
		if (run > start) {
			r = bind_raw(start, run, p);
			*kept = r ? AS_POLICY : as_policy_at(start);
		}
		start = run_end;
	}
	return r;
}

static void set_policy(struct as_range *r, long policy)
{
	r->flags = (uint16_t)((r->flags & ~AS_POLICY) | policy);
}

long ksmc_mbind(void *addr, size_t len, int mode, const unsigned long *mask, unsigned long maxnode,
		unsigned int flags)
{
	uint64_t start = (uintptr_t)addr, end = page_up(start + len);
	const struct policy p = { mode, (long)mask, (long)maxnode, flags };
	struct as_guard g;
	uint16_t kept;
	long r;

	if (!atomic_load_explicit(&as.active, memory_order_relaxed) || start % KSM_PAGE_SIZE ||
	    end <= start)
		return sysc6(SYS_mbind, (long)addr, (long)len, mode, (long)mask, (long)maxnode,
			     flags);
	r = ksmc_exclude(addr, len, KSM_LEFT_MEMPOLICY);
	if (r)
		return r;
	ops_enter(&g);
	r = bind_parts(start, end, &p, &kept);
	if (!r && as_edit(start, end, set_policy, kept == AS_POLICY ? 0 : kept) < 0)
		kept = AS_POLICY;
	ops_leave(&g, false);
	if (!r && kept != AS_POLICY)
		ksmc_include(addr, len, KSM_LEFT_MEMPOLICY);
	return r;
}
