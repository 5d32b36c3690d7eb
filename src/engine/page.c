/* SPDX-License-Identifier: MIT */
/*
 * rmap.c - blocks, items, and the one place where a page changes its state.
 *
 * Safe because nobody else writes the state, the links or the counters that depend on them. A
 * transition that is not in the table is a bug of this program, and going on could free a frame
 * that is still mapped; stopping the daemon is harmless to its clients, so it stops.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/page.h"
#include "engine/block.h"
#include "engine/core.h"
#include "engine/unstable.h"
#include "engine/vma.h"

#define TO(s) (1u << RMAP_##s)

static const uint16_t allowed[RMAP_NR] = {
	/* seen for the first time; adopted; found to be somebody else's */
	[RMAP_ABSENT] = TO(VOLATILE) | TO(MERGED) | TO(FOREIGN),
	/* hashed and unique; partner found; turned into a file page */
	[RMAP_VOLATILE] = TO(ABSENT) | TO(UNSTABLE) | TO(ORDERED) | TO(FOREIGN),
	/* written; partner came */
	[RMAP_UNSTABLE] = TO(ABSENT) | TO(VOLATILE) | TO(ORDERED) | TO(FOREIGN),
	/* outcome of the order, or cancelled */
	[RMAP_ORDERED] = TO(ABSENT) | TO(VOLATILE) | TO(MERGED) | TO(ZEROED),
	[RMAP_MERGED] = TO(ABSENT) | TO(COWED), /* written */
	[RMAP_ZEROED] = TO(ABSENT),
	/* calm again, hashed: unique, or a partner was found */
	[RMAP_COWED] = TO(ABSENT) | TO(UNSTABLE) | TO(ORDERED),
	[RMAP_FOREIGN] = TO(ABSENT) | TO(UNSTABLE) | TO(ORDERED),
};

/* --- the setter --- */

static void forbidden(enum rmap_state from, enum rmap_state to)
{
	fprintf(stderr, "engine: page state %d may not become %d\n", from, to);
	abort();
}

static void site_link(struct engine *e, uint32_t bi, unsigned int slot, uint32_t node)
{
	struct rmap_item *it = &rmap_block(e, bi)->item[slot];
	struct stable_node *n = stable_node(&e->stable, node);

	it->s.node = node;
	it->s.prev = NIL;
	it->s.next = n->first;
	if (n->first != NIL)
		rmap_block(e, n->first / BLOCK_PAGES)->item[n->first % BLOCK_PAGES].s.prev =
			bi * BLOCK_PAGES + slot;
	n->first = bi * BLOCK_PAGES + slot;
	stable_add_site(&e->stable, node);
}

static void site_unlink(struct engine *e, const struct rmap_item *it)
{
	uint32_t prev = it->s.prev, next = it->s.next;

	if (prev == NIL)
		stable_node(&e->stable, it->s.node)->first = next;
	else
		rmap_block(e, prev / BLOCK_PAGES)->item[prev % BLOCK_PAGES].s.next = next;
	if (next != NIL)
		rmap_block(e, next / BLOCK_PAGES)->item[next % BLOCK_PAGES].s.prev = prev;
	stable_del_site(&e->stable, it->s.node);
}

/* Undo what the old state linked. Returns the stable node that lost a site or an order, or NIL. */
static uint32_t leave(struct engine *e, struct rmap_block *b, uint32_t bi, unsigned int slot)
{
	struct rmap_item *it = &b->item[slot];

	switch (rmap_state(b, slot)) {
	case RMAP_UNSTABLE:
		unstable_erase(e, bi * BLOCK_PAGES + slot);
		return NIL;
	case RMAP_ORDERED:
		if (b->ready & bit64(slot)) {
			e->nr_ready--;
			block_mm(b)->nr_ready--;
			b->ready &= ~bit64(slot);
			if (!b->ready)
				block_list_del(block_mm(b), bi, LINK_READY);
		}
		b->inflight &= ~bit64(slot);
		if (it->s.node == NODE_ZERO)
			return NIL;
		stable_node(&e->stable, it->s.node)->nr_ordered--;
		return it->s.node;
	case RMAP_MERGED:
		site_unlink(e, it);
		return it->s.node;
	default:
		return NIL;
	}
}

static void enter(struct engine *e, struct rmap_block *b, uint32_t bi, unsigned int slot,
		  enum rmap_state state, uint32_t arg, uint32_t old_frame)
{
	struct rmap_item *it = &b->item[slot];

	switch (state) {
	case RMAP_UNSTABLE:
		if (!unstable_insert(e, (int)arg, bi * BLOCK_PAGES + slot))
			abort(); /* the caller looked, and found no such content */
		break;
	case RMAP_ORDERED:
		it->s.node = arg;
		if (arg != NODE_ZERO)
			stable_node(&e->stable, arg)->nr_ordered++;
		b->ready |= bit64(slot);
		e->nr_ready++;
		block_mm(b)->nr_ready++;
		block_list_add(block_mm(b), bi, READY_NEW);
		break;
	case RMAP_MERGED:
		item_set_age(it, 0);
		site_link(e, bi, slot, arg);
		break;
	case RMAP_COWED:
		it->c.frame = old_frame;
		break;
	case RMAP_ABSENT:
		item_set_age(it, 0);
		break;
	default:
		break;
	}
}

/* Counters of states and of reasons; the masks that follow from the state. */
static void account(struct engine *e, struct rmap_block *b, unsigned int slot,
		    enum rmap_state state)
{
	struct mm_slot *mm = block_mm(b);
	enum rmap_state old = rmap_state(b, slot);

	if (b->state[slot] & RMAP_LEFT_PINNED) {
		e->left[KSM_LEFT_PINNED]--;
		mm->left[KSM_LEFT_PINNED]--;
	}
	if (b->state[slot] & RMAP_LEFT_VMA) {
		e->left[KSM_LEFT_VMA_BUDGET]--;
		mm->left[KSM_LEFT_VMA_BUDGET]--;
	}
	if ((old == RMAP_ABSENT) != (state == RMAP_ABSENT))
		mm->tracked_seq++;
	if (old != RMAP_ABSENT) {
		e->nr_state[old]--;
		mm->nr_state[old]--;
	}
	if (state != RMAP_ABSENT) {
		e->nr_state[state]++;
		mm->nr_state[state]++;
		b->tracked |= bit64(slot);
	} else {
		b->tracked &= ~bit64(slot);
	}
	b->pending &= ~bit64(slot);
	b->fresh &= ~bit64(slot);
	b->state[slot] = state;
}

void page_set(struct engine *e, uint32_t bi, unsigned int slot, enum rmap_state state, uint32_t arg)
{
	struct rmap_block *b = rmap_block(e, bi);
	enum rmap_state old = rmap_state(b, slot);
	uint32_t from, to, node;

	if (!(allowed[old] >> state & 1))
		forbidden(old, state);
	from = vma_frame(e, b, slot);
	node = leave(e, b, bi, slot);
	account(e, b, slot, state);
	enter(e, b, bi, slot, state, arg, from);
	to = vma_frame(e, b, slot);
	if (from != to)
		vma_changed(e, bi, slot, from, to);
	if (node == NIL)
		return;
	if (state != RMAP_MERGED)
		stable_touch(&e->stable, node);
}

void page_pend(struct engine *e, uint32_t bi, unsigned int slot, bool fresh)
{
	struct rmap_block *b = rmap_block(e, bi);
	struct mm_slot *mm = block_mm(b);

	b->pending |= bit64(slot);
	if (fresh)
		b->fresh |= bit64(slot);
	if (!b->on[LINK_PEND])
		block_list_add(mm, bi, PEND_NEXT ^ mm->pend_flip);
}

void page_age(struct rmap_block *b, unsigned int slot)
{
	unsigned int age = item_age(&b->item[slot]) & 15, skip;

	age += age < 15;
	skip = age > 4 ? 15 : (1u << (age - 1)) - 1; /* 0, 1, 3, 7, 15 passes */
	item_set_age(&b->item[slot], (uint8_t)(skip << 4 | age));
}

void page_left_out(struct engine *e, uint32_t bi, unsigned int slot, uint8_t why)
{
	struct rmap_block *b = rmap_block(e, bi);
	int reason = why == RMAP_LEFT_PINNED ? KSM_LEFT_PINNED : KSM_LEFT_VMA_BUDGET;

	if (rmap_state(b, slot) != RMAP_VOLATILE)
		forbidden(rmap_state(b, slot), RMAP_VOLATILE);
	if (b->state[slot] & why)
		return;
	b->state[slot] |= why;
	e->left[reason]++;
	block_mm(b)->left[reason]++;
}

void page_drop(struct mm_slot *mm, uint32_t bi, uint64_t mask)
{
	struct rmap_block *b = rmap_block(mm->e, bi);

	for (mask &= b->tracked; mask; mask &= mask - 1)
		page_set(mm->e, bi, (unsigned int)__builtin_ctzll(mask), RMAP_ABSENT, 0);
	block_put(mm, bi);
}

static uint64_t pages_of_block(uint32_t key, uint64_t start, uint64_t end)
{
	uint64_t first = (uint64_t)key << BLOCK_SHIFT, s = start >> PAGE_SHIFT,
		 t = end >> PAGE_SHIFT;

	if (t <= first || s >= first + BLOCK_PAGES)
		return 0;
	return mask64(s > first ? (unsigned int)(s - first) : 0,
		      t < first + BLOCK_PAGES ? (unsigned int)(t - first) : BLOCK_PAGES);
}

void page_drop_range(struct mm_slot *mm, uint64_t start, uint64_t end)
{
	uint64_t key = start / BLOCK_BYTES, last = (end - 1) / BLOCK_BYTES, mask;
	uint32_t i, bi;

	if (last - key < mm->table.cap) {
		for (; key <= last; key++)
			if ((bi = block_find(mm, (uint32_t)key)) != NIL)
				page_drop(mm, bi, pages_of_block((uint32_t)key, start, end));
		table_shrink(mm);
		return;
	}
	/* Wide range, few blocks. Erasing moves an entry into the slot looked at: look again. */
	for (i = 0; i < mm->table.cap;) {
		bi = mm->table.slot[i].block;
		mask = bi == NIL ? 0 : pages_of_block(mm->table.slot[i].key, start, end);
		if (!mask || !(rmap_block(mm->e, bi)->tracked & mask)) {
			i++;
			continue;
		}
		page_drop(mm, bi, mask);
	}
	table_shrink(mm);
}

uint32_t page_frame_after_left(const struct engine *e, uint32_t bi, unsigned int slot)
{
	const struct rmap_block *b = rmap_block(e, bi);
	uint32_t node;

	if (!slot) {
		bi = b->key ? block_find(block_mm(b), b->key - 1) : NIL;
		if (bi == NIL)
			return POOL_NONE;
		b = rmap_block(e, bi);
		slot = BLOCK_PAGES;
	}
	slot--;
	if (rmap_state(b, slot) != RMAP_MERGED && rmap_state(b, slot) != RMAP_ORDERED)
		return POOL_NONE;
	node = b->item[slot].s.node;
	return node == NODE_ZERO ? POOL_NONE : stable_node(&e->stable, node)->frame + 1;
}
