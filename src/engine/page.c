/* SPDX-License-Identifier: MIT */
/*
 * page.c - the one place where a page changes its state.
 *
 * Safe because no other file writes the state, the links or the counters that depend on them. A
 * move that is not in the table is a bug of this program, and going on could free a frame that is
 * still mapped. Stopping the daemon is harmless to its clients, so it stops.
 */
#include <stdio.h>
#include <stdlib.h>

#include "engine/page.h"
#include "base/usdt.h"
#include "engine/block.h"
#include "engine/crowd.h"
#include "engine/unstable.h"
#include "engine/vma.h"

#define TO(s) (1u << RMAP_##s)

static const uint16_t allowed[RMAP_NR] = {
	/* seen for the first time; adopted; found to be of an earlier daemon */
	[RMAP_ABSENT] = TO(VOLATILE) | TO(MERGED) | TO(FOREIGN),
	/* hashed and unique; equal to others; partner found; turned into a file page */
	[RMAP_VOLATILE] = TO(ABSENT) | TO(UNSTABLE) | TO(WAITING) | TO(ORDERED) | TO(FOREIGN),
	/* written; partner came */
	[RMAP_UNSTABLE] = TO(ABSENT) | TO(VOLATILE) | TO(WAITING) | TO(ORDERED) | TO(FOREIGN),
	/* written, or sorted anew; all others have gone; its crowd's time has come */
	[RMAP_WAITING] = TO(ABSENT) | TO(VOLATILE) | TO(UNSTABLE) | TO(ORDERED) | TO(FOREIGN),
	/* outcome of the order, or cancelled */
	[RMAP_ORDERED] = TO(ABSENT) | TO(VOLATILE) | TO(MERGED) | TO(ZEROED),
	/* written; moved to another node of its contents */
	[RMAP_MERGED] = TO(ABSENT) | TO(COWED) | TO(MERGED),
	[RMAP_ZEROED] = TO(ABSENT),
	/* calm again, hashed: unique, or a partner was found */
	[RMAP_COWED] = TO(ABSENT) | TO(UNSTABLE) | TO(WAITING) | TO(ORDERED),
	[RMAP_FOREIGN] = TO(ABSENT) | TO(UNSTABLE) | TO(WAITING) | TO(ORDERED),
};

static void forbidden(enum rmap_state from, enum rmap_state to)
{
	fprintf(stderr, "engine: page state %d may not become %d\n", from, to);
	abort();
}

static void site_link(struct engine *e, uint32_t item, uint32_t node) NEEDS(e->lock)
{
	struct rmap_item *it = rmap_item(e, item);
	struct stable_node *n = stable_node(&e->stable, node);

	it->s.node = node;
	it->s.prev = NIL;
	it->s.next = n->first;
	if (n->first != NIL)
		rmap_item(e, n->first)->s.prev = item;
	n->first = item;
	block_mm(rmap_block(e, item / BLOCK_PAGES))->on_nid[n->nid]++;
	stable_add_site(&e->stable, node);
}

static void site_unlink(struct engine *e, struct mm_slot *mm, const struct rmap_item *it)
	NEEDS(e->lock)
{
	uint32_t prev = it->s.prev, next = it->s.next;

	mm->on_nid[stable_node(&e->stable, it->s.node)->nid]--;
	if (prev == NIL)
		stable_node(&e->stable, it->s.node)->first = next;
	else
		rmap_item(e, prev)->s.next = next;
	if (next != NIL)
		rmap_item(e, next)->s.prev = prev;
	stable_del_site(&e->stable, it->s.node);
}

static void order_unlink(struct engine *e, struct rmap_block *b, uint32_t bi, unsigned int slot)
	NEEDS(e->lock)
{
	struct mm_slot *mm = block_mm(b);

	mm_is_of(mm, e);
	if (b->ready & bit64(slot)) {
		e->nr_ready--;
		mm->nr_ready--;
		b->ready &= ~bit64(slot);
		if (!b->ready)
			block_list_del(mm, bi, LINK_READY);
	}
	b->inflight &= ~bit64(slot);
}

static void order_link(struct engine *e, struct rmap_block *b, uint32_t bi, unsigned int slot)
	NEEDS(e->lock)
{
	struct mm_slot *mm = block_mm(b);

	mm_is_of(mm, e);
	b->ready |= bit64(slot);
	e->nr_ready++;
	mm->nr_ready++;
	block_list_add(mm, bi, READY_NEW);
}

/* A site that is to move stays where it is. */
static void move_unlink(struct engine *e, struct rmap_block *b, uint32_t bi, unsigned int slot)
	NEEDS(e->lock)
{
	if (!((b->ready | b->inflight) & bit64(slot)))
		return;
	order_unlink(e, b, bi, slot);
	stable_del_move(&e->stable, b->item[slot].s.node);
}

void page_move(struct engine *e, uint32_t bi, unsigned int slot, uint32_t to)
{
	struct rmap_block *b = rmap_block(e, bi);

	if (rmap_state(b, slot) != RMAP_MERGED || ((b->ready | b->inflight) & bit64(slot)))
		forbidden(rmap_state(b, slot), RMAP_MERGED);
	stable_add_move(&e->stable, b->item[slot].s.node, to);
	order_link(e, b, bi, slot);
}

void page_move_end(struct engine *e, uint32_t bi, unsigned int slot)
{
	struct rmap_block *b = rmap_block(e, bi);

	move_unlink(e, b, bi, slot);
}

void page_node_moved(struct engine *e, uint32_t node, int nid)
{
	const struct stable_node *n = stable_node(&e->stable, node);

	for (uint32_t i = n->first; i != NIL; i = rmap_item(e, i)->s.next) {
		struct mm_slot *mm = block_mm(rmap_block(e, i / BLOCK_PAGES));

		mm->on_nid[n->nid]--;
		mm->on_nid[nid]++;
	}
	stable_set_nid(&e->stable, node, nid, tree_root(e, nid));
}

/* Undo what the old state linked. Returns the stable node that lost a site or an order, or NIL. */
static uint32_t leave(struct engine *e, struct rmap_block *b, uint32_t bi, unsigned int slot)
	NEEDS(e->lock)
{
	struct rmap_item *it = &b->item[slot];

	switch (rmap_state(b, slot)) {
	case RMAP_UNSTABLE:
		unstable_erase(e, item_index(bi, slot));
		return NIL;
	case RMAP_WAITING:
		crowd_del(e, item_index(bi, slot));
		return NIL;
	case RMAP_ORDERED:
		order_unlink(e, b, bi, slot);
		if (it->s.node == NODE_ZERO)
			return NIL;
		stable_node(&e->stable, it->s.node)->nr_ordered--;
		return it->s.node;
	case RMAP_MERGED:
		USDT(ksm_remove_rmap_item, (uint64_t)bound_frame(e, b, slot), it, block_mm(b));
		move_unlink(e, b, bi, slot);
		site_unlink(e, block_mm(b), it);
		return it->s.node;
	default:
		return NIL;
	}
}

static void enter(struct engine *e, struct rmap_block *b, uint32_t bi, unsigned int slot,
		  enum rmap_state state, uint32_t arg, uint32_t old_frame) NEEDS(e->lock)
{
	struct rmap_item *it = &b->item[slot];

	switch (state) {
	case RMAP_UNSTABLE:
		if (!unstable_insert(e, (int)arg, item_index(bi, slot)))
			abort(); /* the caller looked, and found no such content */
		break;
	case RMAP_WAITING:
		crowd_add(e, arg, item_index(bi, slot));
		break;
	case RMAP_ORDERED:
		it->s.node = arg;
		if (arg != NODE_ZERO)
			stable_node(&e->stable, arg)->nr_ordered++;
		order_link(e, b, bi, slot);
		break;
	case RMAP_MERGED:
		item_set_age(it, 0);
		site_link(e, item_index(bi, slot), arg);
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

/* `why`: any of RMAP_LEFT. */
static void count_left(struct engine *e, struct mm_slot *mm, uint8_t why, int more) NEEDS(e->lock)
{
	static const struct {
		uint8_t why;
		enum ksm_left_out reason;
	} left[] = {
		{ RMAP_LEFT_PINNED, KSM_LEFT_PINNED },
		{ RMAP_LEFT_VMA, KSM_LEFT_VMA_BUDGET },
		{ RMAP_LEFT_ARENA, KSM_LEFT_ARENA_LIMIT },
		{ RMAP_LEFT_FORK, KSM_LEFT_FORK_SHARED },
	};

	if (!(why & RMAP_LEFT))
		return;
	for (unsigned int i = 0; i < sizeof(left) / sizeof(left[0]); i++) {
		if (!(why & left[i].why))
			continue;
		e->left[left[i].reason] += (uint64_t)more;
		mm->left[left[i].reason] += (uint64_t)more;
		if (left[i].reason == KSM_LEFT_VMA_BUDGET && mm->forks.told)
			e->left_for_forks += (uint64_t)more;
	}
}

/* Counters of states and of reasons; the masks that follow from the state. */
static void account(struct engine *e, struct rmap_block *b, unsigned int slot,
		    enum rmap_state state) NEEDS(e->lock)
{
	struct mm_slot *mm = block_mm(b);
	enum rmap_state old = rmap_state(b, slot);

	count_left(e, mm, rmap_left(b, slot), -1);
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
	if (!rmap_is_private(state))
		b->inlaid &= ~bit64(slot);
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
	/* An order that was carried out leaves its node as many pages as before. */
	if (node != NIL && (state != RMAP_MERGED || old == RMAP_MERGED))
		stable_touch(&e->stable, node);
}

void page_inlaid(struct engine *e, uint32_t bi, unsigned int slot)
{
	struct rmap_block *b = rmap_block(e, bi);
	uint32_t from = vma_frame(e, b, slot), to;

	if (!slot || !rmap_is_private(rmap_state(b, slot)))
		return; /* it was dropped meanwhile */
	b->inlaid |= bit64(slot);
	to = vma_frame(e, b, slot);
	if (from != to)
		vma_changed(e, bi, slot, from, to);
}

void page_set_guessed(struct engine *e, uint32_t bi, unsigned int slot, uint32_t node)
{
	struct rmap_block *b = rmap_block(e, bi);

	page_set(e, bi, slot, RMAP_ORDERED, node);
	item_set_hash(&b->item[slot],
		      node == NODE_ZERO ? e->zero_hash : stable_node(&e->stable, node)->hash);
	b->state[slot] |= RMAP_FOLLOWED;
}

void page_pend(struct engine *e, uint32_t bi, unsigned int slot, bool fresh)
{
	struct rmap_block *b = rmap_block(e, bi);
	struct mm_slot *mm = block_mm(b);

	b->pending |= bit64(slot);
	if (fresh)
		b->fresh |= bit64(slot);
	mm_is_of(mm, e);
	if (!b->on[LINK_PEND])
		block_list_add(mm, bi, block_pend_list(mm, PEND_NEXT));
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

	if (rmap_state(b, slot) != RMAP_VOLATILE)
		forbidden(rmap_state(b, slot), RMAP_VOLATILE);
	if (b->state[slot] & why)
		return;
	b->state[slot] |= why;
	count_left(e, block_mm(b), why, 1);
}

/* --- forgetting --- */

void page_drop(struct mm_slot *mm, uint32_t bi, uint64_t mask)
{
	for (mask &= rmap_block(mm->e, bi)->tracked; mask; mask &= mask - 1)
		page_set(mm->e, bi, low_bit(mask), RMAP_ABSENT, 0);
	block_put(mm, bi);
}

/* A wide range, few blocks: go through the table. */
static void drop_by_table(struct mm_slot *mm, struct span at) NEEDS(mm->e->lock)
{
	/* Erasing moves an entry into the place looked at: look again. */
	for (uint32_t i = 0; i < mm->table.cap;) {
		uint32_t bi = mm->table.entry[i].block;
		uint64_t mask = bi == NIL ? 0 : block_mask(mm->table.entry[i].key, at);

		if (!mask || !(rmap_block(mm->e, bi)->tracked & mask))
			i++;
		else
			page_drop(mm, bi, mask);
	}
}

void page_drop_range(struct mm_slot *mm, struct span at)
{
	uint32_t first = (uint32_t)(at.start / BLOCK_BYTES);
	uint32_t last = (uint32_t)((at.end - 1) / BLOCK_BYTES), bi;

	if (last - first >= mm->table.cap) {
		drop_by_table(mm, at);
	} else {
		for (uint32_t key = first; key <= last; key++)
			if ((bi = block_find(mm, key)) != NIL)
				page_drop(mm, bi, block_mask(key, at));
	}
	block_shrink_table(mm);
}

/* --- what a page stands on --- */

/* Block of the page to the left, whose slot *slot becomes; or NULL. */
static const struct rmap_block *left_of(const struct engine *e, uint32_t bi, unsigned int *slot)
	NEEDS(e->lock)
{
	const struct rmap_block *b = rmap_block(e, bi);

	if (!*slot) {
		mm_is_of(block_mm(b), e);
		bi = b->key ? block_find(block_mm(b), b->key - 1) : NIL;
		*slot = BLOCK_PAGES;
	}
	--*slot;
	return bi == NIL ? NULL : rmap_block(e, bi);
}

uint32_t page_frame_after_left(const struct engine *e, uint32_t bi, unsigned int slot)
{
	const struct rmap_block *b = left_of(e, bi, &slot);

	if (!b || (rmap_state(b, slot) != RMAP_MERGED && rmap_state(b, slot) != RMAP_ORDERED))
		return POOL_NONE;
	return b->item[slot].s.node == NODE_ZERO ? POOL_NONE : bound_frame(e, b, slot) + 1;
}

bool page_left_is_zero(const struct engine *e, uint32_t bi, unsigned int slot)
{
	const struct rmap_block *b = left_of(e, bi, &slot);

	if (!b)
		return false;
	return rmap_state(b, slot) == RMAP_ZEROED ||
	       (rmap_state(b, slot) == RMAP_ORDERED && b->item[slot].s.node == NODE_ZERO);
}
