/* SPDX-License-Identifier: MIT */
/* contig.h - runs of frames that are made when there is none: direct compaction. */
#ifndef KSM_CONTIG_H
#define KSM_CONTIG_H

#include "pool/range.h"

/*
 * Take 2^order movable frames of zone `nid`, aligned, as pool_alloc_run(); where there is no such
 * run, have one made: direct compaction. It ends as soon as there is one, and is not begun where
 * index_worth_compacting() says that frames are short: to move them would help nobody. POOL_NONE as
 * range_alloc_any(), also for an order beyond POOL_MAX_ORDER; job->who says why.
 */
uint32_t contig_alloc(struct pool *p, int nid, unsigned int order, int threshold,
		      struct range_job *job);

#endif
