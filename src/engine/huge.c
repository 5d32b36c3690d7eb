/* SPDX-License-Identifier: MIT */
/*
 * huge.c - see huge.h.
 *
 * Change tracking protects memory, and the first write to a protected huge page has the kernel map
 * its pages singly, to note which of them it was. Nothing has been gained then, and the program has
 * lost what it asked for: 64 MiB of unique memory, written here and there, kept no huge page. So
 * huge pages are not protected (track.c). They are reported in each pass, and what was written is
 * found as the kernel's KSM finds it: pages are hashed again. In a block where nothing has changed
 * that happens after 1, 2, 4 and up to 64 passes, in one where something has in every pass.
 *
 * Safe because a hash of such a page is at worst older than one of another, which may be stale as
 * well (unstable.c): the client compares before it maps a frame, and a frame is filled only with
 * what was just read. A page that differs from its last hash counts as written, so one that is
 * written all the time is in no tree, and is not ordered: an order would split its huge page for
 * nothing.
 *
 * When something in a huge page has merged the kernel maps the rest of it singly, and change
 * tracking reports all of that as written, since it was not protected. Those pages are hashed once
 * more, and what is known of them is kept until then. An order that waits for one goes ahead, or
 * huge pages would be merged block by block, a pass or two for each.
 */
#include "engine/huge.h"

#include "engine/page.h"

#define SHIFT_MAX 6u /* hashed again after 2^6 passes at the longest */

bool huge_seen(struct mm_slot *mm, uint32_t bi)
{
	struct rmap_block *b = rmap_block(mm->e, bi);

	if (!b->huge) {
		b->huge = 1;
		b->huge_at = mm->passes;
		mm->tracked_seq++; /* not dense any more: dense.c */
		return false;
	}
	/* A block may be seen in pieces: then all of it is due. */
	if (b->huge > 1 && b->huge_at == mm->passes)
		return true;
	if ((uint8_t)(mm->passes - b->huge_at) < 1u << (b->huge - 1))
		return false;
	b->huge_at = mm->passes;
	b->huge += b->huge <= SHIFT_MAX;
	return true;
}

bool huge_is(const struct mm_slot *mm, uint32_t bi)
{
	return rmap_block(mm->e, bi)->huge;
}

void huge_end(struct mm_slot *mm, uint32_t bi)
{
	struct rmap_block *b = rmap_block(mm->e, bi);

	if (!b->huge)
		return;
	b->huge = 0;
	mm->tracked_seq++;
}

bool huge_changed(struct engine *e, uint32_t bi, unsigned int slot, uint64_t hash)
{
	struct rmap_block *b = rmap_block(e, bi);
	enum rmap_state state = rmap_state(b, slot);
	bool again = state == RMAP_UNSTABLE ||
		     (b->huge && state == RMAP_VOLATILE && item_age(&b->item[slot]));

	if (!again || item_hash(&b->item[slot]) == hash)
		return false;
	if (state == RMAP_UNSTABLE)
		page_set(e, bi, slot, RMAP_VOLATILE, 0);
	item_set_hash(&b->item[slot], hash);
	page_age(b, slot);
	page_pend(e, bi, slot, true);
	if (b->huge) {
		b->huge = 1;
		b->huge_at = block_mm(b)->passes;
	}
	return true;
}
