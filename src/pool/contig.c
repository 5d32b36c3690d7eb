/* SPDX-License-Identifier: MIT */
/*
 * contig.c - see contig.h.
 *
 * The first place where a run can be made is emptied (range.c), so no more is moved than stands
 * there, and it ends with that. Whether to begin is decided as in the kernel's page allocator: not
 * where frames are short, because no run would come of it.
 */
#include "pool/contig.h"

#include <errno.h>

#include "pool/index.h"

int contig_alloc(struct pool *p, int nid, unsigned int order, int threshold, struct range_job *job,
		 uint32_t *frame)
{
	int err = pool_alloc_run(p, nid, POOL_MOVABLE, order, frame);
	uint32_t first = (uint32_t)nid * p->zone_frames;
	uint64_t runs[POOL_ORDERS];

	job->who = (struct pool_culprit){ .frame = POOL_NONE };
	job->stalled = false;
	if (err == -EINVAL)
		job->who.why = order > POOL_MAX_ORDER ? "an order beyond the largest" :
							"no such zone";
	if (err != -ENOMEM)
		return err;
	index_runs(p, nid, POOL_TYPES, runs);
	if (!index_worth_compacting(runs, order, threshold)) {
		job->who.why = "too few frames are free";
		return -ENOMEM;
	}
	job->stalled = true;
	return range_alloc_any(p, first, first + p->zone_frames, 1u << order, 1u << order, job,
			       frame);
}
