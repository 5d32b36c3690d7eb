/* SPDX-License-Identifier: MIT */
/*
 * retry.c - see retry.h.
 *
 * A page that several processes of a fork map is one page already: merging it in one of them would
 * free nothing. It becomes worth it when the others have written to their copies or have gone, and
 * then nothing is written here that change tracking could report. So all such pages of a client
 * are tried again together: soon when there are more than there were, or when enough of them have
 * merged, and ever less often otherwise. That there are fewer says nothing. Those that were tried
 * may just wait for a partner, which is tried by its own client later; then all of them are back.
 */
#include "engine/retry.h"

#include "engine/page.h"

/* Passes between two tries: at the longest a page is hashed in less than 1 % of all passes. */
#define INTERVAL_MIN 4u
#define INTERVAL_MAX 256u

static void begin(struct mm_slot *mm)
{
	mm->fork_left = mm->left[KSM_LEFT_FORK_SHARED];
	mm->fork_merged = mm->nr_state[RMAP_MERGED];
	mm->fork_passed = 0;
	mm->fork_interval = INTERVAL_MIN;
}

/* By more than an eighth: some pages come and go with every try. */
static bool has_grown(uint64_t was, uint64_t is, uint64_t of)
{
	return is > was + of / 8;
}

void retry_shared(struct mm_slot *mm)
{
	uint64_t left = mm->left[KSM_LEFT_FORK_SHARED];

	if (mm->nr_ready || mm->nr_orders)
		return; /* pages that are being tried are not among them */
	if (has_grown(mm->fork_left, left, mm->fork_left) ||
	    has_grown(mm->fork_merged, mm->nr_state[RMAP_MERGED], mm->fork_left)) {
		begin(mm);
		return;
	}
	if (!left || ++mm->fork_passed < mm->fork_interval)
		return;
	mm->fork_passed = 0;
	mm->fork_merged = mm->nr_state[RMAP_MERGED];
	if (mm->fork_interval < INTERVAL_MAX)
		mm->fork_interval *= 2;
	for (uint32_t i = 0; i < mm->table.cap; i++) {
		uint32_t bi = mm->table.entry[i].block;

		for (unsigned int slot = 0; bi != NIL && slot < BLOCK_PAGES; slot++)
			if (rmap_left(rmap_block(mm->e, bi), slot) & RMAP_LEFT_FORK)
				page_pend(mm->e, bi, slot, false);
	}
}
