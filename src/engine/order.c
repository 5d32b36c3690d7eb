/* SPDX-License-Identifier: MIT */
/*
 * order.c - orders: when they are sent, what becomes of them.
 *
 * An order is for the ready pages of one block. It is not sent while a worker is tracking the block (what
 * tracking says would be older than the outcome), while the bytes of its frames are not written, while
 * another order for the block is under way, or when the client has its fill of them.
 *
 * A page that is dropped under an order is simply not there when the outcome comes.
 */
#include <errno.h>
#include <string.h>

#include "engine/block.h"
#include "engine/budget.h"
#include "engine/core.h"
#include "engine/follow.h"
#include "engine/merge.h"
#include "engine/page.h"
#include "engine/settle.h"

/*
 * A block whose pages find their partners one by one is best merged in one order: longer runs, fewer
 * calls. So orders for a part of a block wait until that many flushes (one for each thousand pages
 * scanned) have brought nothing new for it.
 */
#define HOLD_FLUSHES 8

/* Ready pages whose orders can be sent: their frames have their bytes, and somebody shares them. */
static uint64_t sendable(struct engine *e, uint32_t bi)
{
	const struct rmap_block *b = rmap_block(e, bi);
	uint64_t m, send = b->ready;

	for (m = send; m; m &= m - 1) {
		unsigned int slot = (unsigned int)__builtin_ctzll(m);
		uint32_t node = b->item[slot].s.node;
		const struct stable_node *n;

		if (node == NODE_ZERO)
			continue;
		n = stable_node(&e->stable, node);
		if (n->filling) {
			send &= ~bit64(slot);
		} else if (!n->told && n->nr_items + n->nr_ordered == 1) {
			merge_unbind_lonely(e, bi, slot);
			send &= ~bit64(slot);
		}
	}
	return send;
}

/*
 * Do these pages stand on frames so scattered that most will need a mapping each? Two each, as long as others
 * between them are missing; and so much of the budget.
 */
static bool scattered(const struct engine *e, const struct rmap_block *b, uint64_t mask)
{
	unsigned int runs = 0, last = BLOCK_PAGES;
	uint64_t m;

	for (m = mask; m; m &= m - 1) {
		unsigned int slot = (unsigned int)__builtin_ctzll(m);

		if (b->item[slot].s.node != NODE_ZERO &&
		    (slot != last + 1 || order_frame(e, b, slot) != order_frame(e, b, last) + 1))
			runs++;
		last = slot;
	}
	return runs > (unsigned int)__builtin_popcountll(mask) / 2;
}

static struct order *free_order(struct mm_slot *mm)
{
	unsigned int i;

	for (i = 0; i < MM_MAX_ORDERS; i++)
		if (!mm->order[i].id)
			return &mm->order[i];
	return NULL;
}

static void mark_sent(struct mm_slot *mm, uint32_t bi, uint64_t mask)
{
	struct engine *e = mm->e;
	struct rmap_block *b = rmap_block(e, bi);
	uint64_t m;

	for (m = mask; m; m &= m - 1) {
		uint32_t node = b->item[__builtin_ctzll(m)].s.node;

		if (node != NODE_ZERO)
			stable_node(&e->stable, node)->told = 1;
	}
	e->nr_ready -= (uint64_t)__builtin_popcountll(mask);
	mm->nr_ready -= (uint64_t)__builtin_popcountll(mask);
	b->ready &= ~mask;
	b->inflight |= mask;
	if (!b->ready)
		block_list_del(mm, bi, LINK_READY);
}

/*
 * One order for the ready pages of a block. False: the client takes no more now. *waiting: pages are
 * left whose frames are being written.
 */
static bool send_order(struct mm_slot *mm, uint32_t bi, struct order *t, bool *waiting)
{
	struct engine *e = mm->e;
	struct rmap_block *b = rmap_block(e, bi);
	struct ksm_msg_order msg;
	uint64_t send = sendable(e, bi), take, m;
	uint32_t reserved;

	*waiting = b->ready & ~send;
	take = budget_fit(mm, bi, send, &reserved);
	if (!take)
		return true;
	memset(&msg, 0, sizeof(msg));
	mm->order_seq = (mm->order_seq + 1) & (UINT32_MAX / MM_MAX_ORDERS);
	mm->order_seq += !mm->order_seq; /* no id is 0 */
	msg.id = mm->order_seq * MM_MAX_ORDERS + (uint32_t)(t - mm->order);
	msg.addr = (uint64_t)b->key * BLOCK_BYTES;
	memset(msg.frame, 0xff, sizeof(msg.frame)); /* KSM_FRAME_NONE */
	for (m = take; m; m &= m - 1)
		msg.frame[__builtin_ctzll(m)] = order_frame(e, b, (unsigned int)__builtin_ctzll(m));
	if (e->ops->send_order(mm->client, &msg)) {
		mm->vmas_reserved -= reserved;
		return false;
	}
	*t = (struct order){ .id = msg.id, .block = bi, .key = b->key, .vmas = reserved };
	b->order = (uint32_t)(t - mm->order);
	mm->nr_orders++;
	e->nr_orders++;
	e->orders++;
	mark_sent(mm, bi, take);
	return true;
}

/* A worker is tracking these pages: what it is told must not be older than an order. */
static bool being_tracked(const struct mm_slot *mm, const struct rmap_block *b)
{
	uint64_t addr = (uint64_t)b->key * BLOCK_BYTES;
	const struct track_window *t;
	unsigned int i;

	for (i = 0; i < ENGINE_WORKERS; i++) {
		t = &mm->e->worker[i].track;
		if (t->mm == mm && addr < t->end && addr + BLOCK_BYTES > t->start)
			return true;
	}
	return false;
}

/* Send the orders of a block. False: the client takes no more. *skipped: see it again. */
static bool flush_block(struct mm_slot *mm, uint32_t bi, bool *skipped, bool *waiting)
{
	struct rmap_block *b = rmap_block(mm->e, bi);
	struct order *t;

	if (b->order != NIL || being_tracked(mm, b)) {
		*skipped = true;
		return true;
	}
	t = free_order(mm);
	if (!t || !send_order(mm, bi, t, waiting)) {
		*skipped = true;
		return false;
	}
	*skipped |= *waiting;
	return true;
}

/*
 * Which of the blocks that wait. RIPE: full ones, and those that have got nothing for a while, but scattered ones may
 * have to wait on; ALL_LONG: all but scattered ones; ALL_READY: all.
 */
enum which { RIPE, ALL_LONG, ALL_READY };

/*
 * May a block with new orders go at once? A scattered one that is full gains nothing by waiting, unless mappings are
 * short: then longer runs go first.
 */
static bool due_at_once(const struct mm_slot *mm, const struct rmap_block *b, enum which which)
{
	if (which == ALL_READY)
		return true;
	if (which == ALL_LONG)
		return !scattered(mm->e, b, b->ready);
	return b->ready == b->tracked &&
	       !(budget_level(mm) && budget_may_wait(mm) && scattered(mm->e, b, b->ready));
}

/* Blocks that got new orders. False: stop, the client takes no more. */
static bool flush_new(struct mm_slot *mm, enum which which, bool *skipped)
{
	struct engine *e = mm->e;
	uint32_t bi = mm->blocks[READY_NEW].first, next;

	for (; bi != NIL; bi = next) {
		struct rmap_block *b = rmap_block(e, bi);
		bool waiting = false;

		next = b->link[LINK_READY].next;
		if (due_at_once(mm, b, which) && !flush_block(mm, bi, skipped, &waiting))
			return false;
		if (b->on[LINK_READY] && !waiting) {
			b->flush = e->nr_flushes;
			block_list_add(mm, bi, READY_OLD);
		}
	}
	return true;
}

/* Blocks that got no new orders for a while, or all; they stand in order of age. */
static bool flush_old(struct mm_slot *mm, enum which which, bool *skipped)
{
	struct engine *e = mm->e;
	uint32_t bi = mm->blocks[READY_OLD].first, next;
	bool waiting;

	for (; bi != NIL; bi = next) {
		const struct rmap_block *b = rmap_block(e, bi);

		next = b->link[LINK_READY].next;
		if (which == RIPE && (uint16_t)(e->nr_flushes - b->flush) < HOLD_FLUSHES)
			break;
		if (which == RIPE && budget_may_wait(mm) && scattered(e, b, b->ready)) {
			rmap_block(e, bi)->flush = e->nr_flushes;
			block_list_add(mm, bi, READY_OLD);
			continue;
		}
		if (which == ALL_LONG && scattered(e, b, b->ready))
			continue;
		if (!flush_block(mm, bi, skipped, &waiting))
			return false;
	}
	return true;
}

static bool flush(struct mm_slot *mm, enum which which, bool *skipped)
{
	return flush_new(mm, which, skipped) && flush_old(mm, which, skipped);
}

void engine_flush(struct engine *e, enum engine_flush what)
{
	struct mm_slot *mm;

	engine_lock(e);
	e->nr_flushes++;
	cds_list_for_each_entry(mm, &e->mms, list) {
		enum engine_flush now = what > mm->flush_owed ? what : mm->flush_owed;
		bool skipped = false;

		if (!mm->nr_ready) {
			mm->flush_owed = ENGINE_FLUSH_RIPE;
			continue;
		}
		if (now == ENGINE_FLUSH_PASS && !mm->vmas_released)
			mm->vmas_released = flush(mm, ALL_LONG, &skipped);
		if (now != ENGINE_FLUSH_PASS || mm->vmas_released)
			flush(mm, now == ENGINE_FLUSH_RIPE ? RIPE : ALL_READY, &skipped);
		mm->flush_owed = skipped ? now : ENGINE_FLUSH_RIPE;
	}
	engine_unlock(e);
}

uint64_t engine_nr_orders(struct engine *e)
{
	uint64_t nr;

	engine_lock(e);
	nr = e->nr_orders + e->nr_ready;
	engine_unlock(e);
	return nr;
}

static void cancel_block(struct mm_slot *mm, uint32_t bi)
{
	struct rmap_block *b = rmap_block(mm->e, bi);

	while (b->ready) {
		unsigned int slot = (unsigned int)__builtin_ctzll(b->ready);

		page_set(mm->e, bi, slot, RMAP_VOLATILE, 0);
		page_pend(mm->e, bi, slot, false);
	}
}

void engine_cancel_orders(struct engine *e)
{
	struct mm_slot *mm;

	engine_lock(e);
	cds_list_for_each_entry(mm, &e->mms, list) {
		while (mm->blocks[READY_NEW].first != NIL)
			cancel_block(mm, mm->blocks[READY_NEW].first);
		while (mm->blocks[READY_OLD].first != NIL)
			cancel_block(mm, mm->blocks[READY_OLD].first);
		mm->flush_owed = ENGINE_FLUSH_RIPE;
	}
	engine_unlock(e);
}

/* --- outcomes --- */

static void outcome(struct engine *e, uint32_t bi, unsigned int slot, enum ksm_res res)
{
	struct rmap_block *b = rmap_block(e, bi);
	uint32_t node = b->item[slot].s.node;
	bool followed = b->state[slot] & RMAP_FOLLOWED;

	if (followed && (res == KSM_RES_MERGED || res == KSM_RES_DIFFERENT))
		follow_outcome(block_mm(b), res == KSM_RES_MERGED);
	if (res == KSM_RES_MERGED) {
		page_set(e, bi, slot, node == NODE_ZERO ? RMAP_ZEROED : RMAP_MERGED, node);
		e->pages_merged += node != NODE_ZERO;
		return;
	}
	e->order_pages_failed++;
	page_set(e, bi, slot, res == KSM_RES_GONE ? RMAP_ABSENT : RMAP_VOLATILE, 0);
	switch (res) {
	case KSM_RES_BUSY:
		page_left_out(e, bi, slot, RMAP_LEFT_PINNED);
		/* fall through */
	case KSM_RES_DIFFERENT:
		/* A wrong guess says nothing about how often the page changes. Nor is it guessed again. */
		page_age(b, slot);
		page_pend(e, bi, slot, !followed);
		break;
	case KSM_RES_STALE:
		page_pend(e, bi, slot, false);
		break;
	default: /* NOMEM; NONE, which is no answer: wait until the page is written again */
		break;
	}
}

static struct order *find_order(struct mm_slot *mm, uint32_t id)
{
	struct order *t = &mm->order[id % MM_MAX_ORDERS];

	return id && t->id == id ? t : NULL;
}

int engine_order_done(struct mm_slot *mm, uint32_t id, const uint8_t result[KSM_ORDER_PAGES])
{
	struct engine *e = mm->e;
	struct rmap_block *b;
	unsigned int i;
	struct order *t;
	uint32_t bi;

	for (i = 0; i < KSM_ORDER_PAGES; i++)
		if (result[i] >= KSM_RES_NR)
			return -EPROTO;
	engine_lock(e);
	t = find_order(mm, id);
	if (!t) {
		engine_unlock(e);
		return -EPROTO;
	}
	bi = t->block;
	mm->vmas_reserved -= t->vmas;
	mm->nr_orders--;
	e->nr_orders--;
	t->id = 0;
	if (bi != NIL) {
		b = rmap_block(e, bi);
		b->order = NIL;
		for (i = 0; i < BLOCK_PAGES; i++)
			if (b->inflight >> i & 1)
				outcome(e, bi, i, result[i]);
		if (b->ready)
			block_list_add(mm, bi, READY_NEW);
		block_put(mm, bi);
	}
	engine_unlock(e);
	return 0;
}
