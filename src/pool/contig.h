/* SPDX-License-Identifier: MIT */
/* contig.h - runs of frames that are made when there is none: direct compaction. */
#ifndef KSM_CONTIG_H
#define KSM_CONTIG_H

#include "pool/range.h"

/*
 * Take 2^order movable frames of zone `nid`, aligned, the first of which becomes *frame, as
 * pool_alloc_run(); where there is no such run, have one made: direct compaction. It ends as soon
 * as there is one, and is not begun where index_worth_compacting() says that frames are short: to
 * move them would help nobody (-ENOMEM). Returns 0, -EINVAL as pool_alloc_run(), or as
 * range_alloc_any(); on failure job->who says why, and *frame is POOL_NONE.
 */
int contig_alloc(struct pool *p, int nid, unsigned int order, int threshold, struct range_job *job,
		 uint32_t *frame);

#endif
