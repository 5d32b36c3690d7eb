/* SPDX-License-Identifier: MIT */
/* fill.h - new frames get their bytes. */
#ifndef KSM_FILL_H
#define KSM_FILL_H

#include "engine/core.h"

/* Note that the worker owes this new frame its bytes, which are page `page` of its buffer. */
void fill_add(struct fill *f, const struct engine *e, uint32_t node, uint32_t partner,
	      unsigned int page) NEEDS(e->lock);
/* Some pages were refused: give up the new frames that would serve one page or none. */
void fill_prune(struct fill *f, struct engine *e) NEEDS(e->lock);
/*
 * [unlocked] Write the new frames from buf, and let orders for them go. Pages whose frame cannot be
 * written are unbound and wait to be hashed again.
 */
void fill_write(struct fill *f, struct engine *e, const unsigned char *buf) NEEDS_NOT(e->lock);

#endif
