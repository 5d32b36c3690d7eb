/* SPDX-License-Identifier: MIT */
/* follow.h - what stands beside equal pages is probably equal as well. */
#ifndef KSM_FOLLOW_H
#define KSM_FOLLOW_H

#include "engine/core.h"

/*
 * No lock held. A run of pages is about to be read. Returns how many of them, from `first` on, were bound to
 * frames unread, and need not be; if 0, pages that may be equal to them were noted. Then follow_end().
 */
unsigned int follow_begin(struct scan_worker *w, struct mm_slot *mm, uint32_t key,
			  unsigned int first, unsigned int want);
/* No lock held. The pages are in the buffer: do the samples agree? */
void follow_sample(struct scan_worker *w, struct engine *e, unsigned int nr);
/* The item that should be equal to that page of the buffer, or NIL. */
uint32_t follow_partner(const struct scan_worker *w, unsigned int page);
void follow_end(struct scan_worker *w); /* no lock held */
/*
 * No lock held. Pages of another client, not tracked yet, where those of [*start, *end) probably have their
 * like: it, with a reference, and where. NULL: none.
 */
struct mm_slot *follow_untracked(struct mm_slot *mm, uint64_t *start, uint64_t *end);
void follow_pair(struct engine *e, uint32_t item, uint32_t partner); /* these two are a pair */
void follow_outcome(struct mm_slot *mm, bool right);                 /* of a page guessed about */

#endif
