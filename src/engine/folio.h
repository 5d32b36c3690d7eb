/* SPDX-License-Identifier: MIT */
/* folio.h - pageblocks that somebody else has made huge pages of: see folio.c. */
#ifndef KSM_FOLIO_H
#define KSM_FOLIO_H

#include "engine/core.h"

/*
 * Before frames are given back, whose grace period is over: v[] are nr of them, in order. The
 * pageblocks of those that lie in a huge page are given back whole from now on.
 */
void folio_look(struct engine *e, const uint32_t *v, uint32_t nr) NEEDS(e->lock);

#endif
