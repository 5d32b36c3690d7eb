/* SPDX-License-Identifier: MIT */
/*
 * shed.c - a client that has too many mappings for its forks gives some back.
 *
 * Merging may have added mappings before the client began to fork (forks.c). Refusing more of them
 * would leave every fork as slow as it is. So the client is asked to put private memory in the
 * place of those frames that cost it most: the shortest runs of pages first, each in a mapping of
 * its own, and in the end whole blocks. Frames that alternate with private pages stay: to give them
 * back leaves as many mappings as there are. The client answers with a FORGET for what it gave
 * back. Its pages are new then, are read once, and find no room in the budget.
 *
 * Asking is all that happens here, so nothing can be lost: until the FORGET comes, the engine takes
 * the pages to stand where they stood. A client may fail (a device may have the page pinned, its
 * memory is short), or say nothing. A round that brings less than half of what it should is
 * followed by ever longer pauses, so a client that cannot is not asked for ever, and loses no
 * longer runs for it.
 */
#include "engine/shed.h"

#include "engine/block.h"
#include "engine/budget.h"
#include "engine/forks.h"
#include "engine/mm.h"
#include "engine/vma.h"

#define ROUND_BLOCKS 4096u /* looked at in one hold of the lock: some milliseconds */
#define ROUND_MS 1000u     /* that a client has for an answer */
#define ROUND_MS_MAX 64000u
#define SLACK 16u /* mappings: fewer are not worth the asking */

/* Runs shorter than this go at each level; a run that leaves its block is a long one. */
static const uint32_t run_below[] = { 2, 4, 16, UINT32_MAX };
#define LEVELS (sizeof(run_below) / sizeof(run_below[0]))

/* Pages whose mapping is short enough to go. */
static uint64_t short_runs(const uint32_t row[VMA_ROW], uint32_t below)
{
	uint64_t mask = 0;

	for (unsigned int i = 0, j; i < BLOCK_PAGES; i = j) {
		const uint32_t *f = row + 1;
		bool leaves;

		for (j = i + 1; j < BLOCK_PAGES && !vma_differ(f[j - 1], f[j]); j++)
			;
		if (f[i] == FRAME_NONE)
			continue;
		leaves = (!i && !vma_differ(row[0], f[0])) ||
			 (j == BLOCK_PAGES && !vma_differ(f[j - 1], f[j]));
		if ((leaves ? BLOCK_PAGES : j - i) < below)
			mask |= mask64(i, j);
	}
	return mask;
}

/*
 * Of these pages, those that are worth it: neighbours that go together become one mapping. That
 * stays one of its own between pages that were private before, because the kernel joins no mappings
 * whose anon_vma differs; so a single page would gain nothing. *gain grows by the mappings less.
 */
static uint64_t worth_it(const uint32_t row[VMA_ROW], uint64_t mask, uint64_t *gain)
{
	uint64_t take = 0;

	while (mask) {
		unsigned int i = low_bit(mask), j = i, inner = 0;

		for (; j < BLOCK_PAGES && (mask >> j & 1); j++)
			inner += j > i && vma_differ(row[j], row[j + 1]);
		if (inner) {
			*gain += inner;
			take |= mask64(i, j);
		}
		mask &= ~mask64(i, j);
	}
	return take;
}

/* Ask for what this block can give. False: the client takes no messages now. */
static bool ask_block(struct mm_slot *mm, uint32_t bi, uint64_t *gain) NEEDS(mm->e->lock)
{
	const struct rmap_block *b = rmap_block(mm->e, bi);
	uint64_t more = 0, mask;
	uint32_t row[VMA_ROW];

	if (b->order != NIL || b->ready)
		return true; /* what it does to mappings is not known yet */
	vma_row(mm, bi, row);
	mask = worth_it(row, short_runs(row, run_below[mm->shed.level]), &more);
	if (!mask)
		return true;
	if (mm->e->ops->give_back(mm->client, block_span(b->key).start, mask))
		return false;
	*gain += more;
	return true;
}

/* One round: until enough was asked for, or the client or the time has enough of it. */
static void ask(struct mm_slot *mm, uint64_t excess) NEEDS(mm->e->lock)
{
	struct shed *s = &mm->shed;
	uint64_t gain = 0;

	s->from = mm->vmas_ours;
	for (uint32_t n = 0; n < ROUND_BLOCKS && gain < excess; n++) {
		if (s->at >= mm->table.cap) {
			s->at = 0;
			if (gain || s->level + 1 == LEVELS)
				break; /* the rest in the next round */
			s->level++;
		}
		if (mm->table.entry[s->at].block != NIL &&
		    !ask_block(mm, mm->table.entry[s->at].block, &gain))
			break;
		s->at++;
	}
	s->goal = s->from - u64_min(gain, s->from);
}

void shed_mappings(struct mm_slot *mm)
{
	struct shed *s = &mm->shed;
	uint64_t limit = forks_limit(mm), now = mm->e->crowds.now;

	if (limit == UINT64_MAX || mm->vmas_ours <= limit + limit / 8 + SLACK) {
		*s = (struct shed){ 0 };
		return;
	}
	if (now < s->due_ms && mm->vmas_ours > s->goal)
		return;
	if (s->wait_ms && mm->vmas_ours > s->goal + (s->from - s->goal) / 2)
		s->wait_ms = s->wait_ms < ROUND_MS_MAX ? 2 * s->wait_ms : ROUND_MS_MAX;
	else
		s->wait_ms = ROUND_MS;
	s->due_ms = now + s->wait_ms;
	ask(mm, mm->vmas_ours - limit);
}
