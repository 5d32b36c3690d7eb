/* SPDX-License-Identifier: MIT */
/*
 * follow.h - what stands beside equal pages is probably equal as well.
 *
 * These functions look at what is known and return guesses. They read no client and take no lock:
 * read.c and scan.c do, and test the guesses on samples.
 */
#ifndef KSM_FOLLOW_H
#define KSM_FOLLOW_H

#include "engine/core.h"

/* A run of pages that may be equal to the frames from `frame` on, or zero. */
struct follow_run {
	unsigned int nr;                /* 0: none */
	uint32_t frame;                 /* KSM_FRAME_ZERO: zeros */
	uint8_t sample[FOLLOW_SAMPLES]; /* pages of the run to be read, */
	uint64_t hash[FOLLOW_SAMPLES];  /* and the hashes that they should have */
};

/* The run that begins at page `first` of this block, at most nr pages long. */
struct follow_run follow_frames(const struct mm_slot *mm, uint32_t key, unsigned int first,
				unsigned int nr) NEEDS(mm->e->lock);
/*
 * The samples of the run agreed: bind its pages to the frames, as far as these are still the frames
 * to be bound to. Returns the number of pages bound, from `first` on.
 */
unsigned int follow_bind(struct mm_slot *mm, uint32_t key, unsigned int first,
			 const struct follow_run *run) NEEDS(mm->e->lock);

/* These two items, of a page that was read and of its partner, are a pair. */
void follow_pair(struct engine *e, uint32_t item, uint32_t partner) NEEDS(e->lock);
/* A client has compared a page that was guessed about, to be zero or not. */
void follow_outcome(struct mm_slot *mm, bool zero, bool right) NEEDS(mm->e->lock);
/*
 * nr pages from pn on are about to be read: note in *pal those of another client that may be equal,
 * with a reference. The caller ends with follow_end().
 */
void follow_note(struct pal *pal, const struct mm_slot *mm, uint64_t pn, unsigned int nr)
	NEEDS(mm->e->lock);
/* The item that was found equal to that page of those being read, or NIL. */
uint32_t follow_partner(const struct engine *e, const struct pal *pal, unsigned int page)
	NEEDS(e->lock);
void follow_end(struct pal *pal);
/*
 * Pages of another client, not tracked yet, where those of *at probably have their like: that
 * client, with a reference, and *at is where. NULL: none.
 */
struct mm_slot *follow_untracked(const struct mm_slot *mm, struct span *at) NEEDS(mm->e->lock);

#endif
