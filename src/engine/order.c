/* SPDX-License-Identifier: MIT */
/*
 * order.c - orders: when the daemon sends them, and what becomes of them.
 *
 * An order is for the ready pages of one block. It is not sent while a worker glances at the block
 * (what tracking says would be older than the outcome), while the bytes of its frames are not
 * written, while another order for the block is under way, or when the client has its fill of them.
 *
 * A page that is dropped under an order is simply not there when the outcome comes.
 */
#include <errno.h>
#include <string.h>

#include "engine/order.h"
#include "base/usdt.h"
#include "engine/block.h"
#include "engine/budget.h"
#include "engine/follow.h"
#include "engine/merge.h"
#include "engine/page.h"
#include "engine/settle.h"
#include "engine/glance.h"

/*
 * A block whose pages find their partners one by one is best merged in one order: longer runs,
 * fewer calls. So orders for a part of a block wait until that many flushes (one for each thousand
 * pages scanned) have brought nothing new for it.
 */
#define HOLD_FLUSHES 8

/* --- one order --- */

/* Ready pages whose orders can be sent: their frames have their bytes, and others share them. */
static uint64_t sendable(struct mm_slot *mm, uint32_t bi) NEEDS(mm->e->lock)
{
	const struct rmap_block *b = rmap_block(mm->e, bi);
	uint64_t send = b->ready;

	for (uint64_t m = send; m; m &= m - 1) {
		unsigned int slot = low_bit(m);
		uint32_t node = ordered_node(mm->e, b, slot);
		const struct stable_node *n;

		if (node == NODE_ZERO)
			continue;
		n = stable_node(&mm->e->stable, node);
		if (n->filling) {
			send &= ~bit64(slot);
		} else if (rmap_state(b, slot) == RMAP_ORDERED && !n->told &&
			   n->nr_items + n->nr_ordered == 1) {
			merge_unbind_lonely(mm->e, bi, slot);
			send &= ~bit64(slot);
		}
	}
	return send;
}

static struct order *free_order(struct mm_slot *mm) NEEDS(mm->e->lock)
{
	for (unsigned int i = 0; i < MM_MAX_ORDERS; i++)
		if (!mm->order[i].id)
			return &mm->order[i];
	return NULL;
}

static void mark_sent(struct mm_slot *mm, uint32_t bi, uint64_t mask) NEEDS(mm->e->lock)
{
	struct rmap_block *b = rmap_block(mm->e, bi);

	for (uint64_t m = mask; m; m &= m - 1) {
		uint32_t node = ordered_node(mm->e, b, low_bit(m));

		if (node != NODE_ZERO)
			stable_node(&mm->e->stable, node)->told = 1;
	}
	mm->e->nr_ready -= (uint64_t)__builtin_popcountll(mask);
	mm->nr_ready -= (uint64_t)__builtin_popcountll(mask);
	b->ready &= ~mask;
	b->inflight |= mask;
	if (!b->ready)
		block_list_del(mm, bi, LINK_READY);
}

/*
 * What the agent may know of an order (ksm_msg_order.from). All of its pages move from neighbouring
 * frames to copies of these, or it is told nothing and compares every byte. Contents that met by
 * their hashes alone were never compared.
 */
static uint32_t copied_from(const struct engine *e, const struct rmap_block *b, uint64_t take,
			    uint64_t inlay) NEEDS(e->lock)
{
	uint32_t from = 0;

	for (uint64_t m = take; m; m &= m - 1) {
		unsigned int slot = low_bit(m);
		const struct stable_node *n;

		if (inlay || rmap_state(b, slot) != RMAP_MERGED)
			return 0;
		n = stable_node(&e->stable, b->item[slot].s.node);
		if (!n->exact || n->frame < slot || (from && n->frame - slot != from - 1))
			return 0;
		from = n->frame - slot + 1;
	}
	return from;
}

static void fill_in(struct mm_slot *mm, const struct order *o, uint32_t bi, uint64_t take,
		    uint64_t inlay, struct ksm_msg_order *msg) NEEDS(mm->e->lock)
{
	const struct rmap_block *b = rmap_block(mm->e, bi);

	memset(msg, 0, sizeof(*msg));
	mm->order_seq = (mm->order_seq + 1) & (UINT32_MAX / MM_MAX_ORDERS);
	mm->order_seq += !mm->order_seq; /* no id is 0 */
	msg->id = mm->order_seq * MM_MAX_ORDERS + (uint32_t)(o - mm->order);
	msg->addr = block_span(b->key).start;
	msg->from = copied_from(mm->e, b, take, inlay);
	memset(msg->frame, 0xff, sizeof(msg->frame)); /* KSM_FRAME_NONE */
	for (uint64_t m = take; m; m &= m - 1)
		msg->frame[low_bit(m)] = ordered_frame(mm->e, b, low_bit(m));
	for (uint64_t m = inlay; m; m &= m - 1)
		msg->frame[low_bit(m)] = KSM_FRAME_INLAY;
}

/*
 * One order for the ready pages of a block. False: the client takes no more now. *waiting: pages
 * are left whose frames are being written.
 */
static bool send_order(struct mm_slot *mm, uint32_t bi, struct order *o, bool *waiting)
	NEEDS(mm->e->lock)
{
	struct engine *e = mm->e;
	struct rmap_block *b = rmap_block(e, bi);
	struct ksm_msg_order msg;
	uint64_t send = sendable(mm, bi), take, inlay;
	uint32_t reserved;

	*waiting = b->ready & ~send;
	take = budget_fit(mm, bi, send, &reserved, &inlay);
	if (!take)
		return true;
	fill_in(mm, o, bi, take, inlay, &msg);
	if (e->ops->send_order(mm->client, &msg)) {
		mm->vmas_reserved -= reserved;
		return false;
	}
	*o = (struct order){
		.id = msg.id, .block = bi, .key = b->key, .vmas = reserved, .inlay = inlay
	};
	b->order = (uint32_t)(o - mm->order);
	mm->nr_orders++;
	e->nr_orders++;
	e->total.orders++;
	mark_sent(mm, bi, take);
	return true;
}

/* --- a flush --- */

/*
 * Do these pages stand on frames so scattered that most will need a mapping each? Until the pages
 * between them are merged each costs two mappings, and as much of the budget.
 */
static bool scattered(const struct engine *e, const struct rmap_block *b) NEEDS(e->lock)
{
	unsigned int runs = 0, last = BLOCK_PAGES;

	for (uint64_t m = b->ready; m; m &= m - 1) {
		unsigned int slot = low_bit(m);

		if (ordered_node(e, b, slot) != NODE_ZERO &&
		    (slot != last + 1 ||
		     ordered_frame(e, b, slot) != ordered_frame(e, b, last) + 1))
			runs++;
		last = slot;
	}
	return runs > (unsigned int)__builtin_popcountll(b->ready) / 2;
}

/* Send the order of a block. False: the client takes no more. *skipped: see the block again. */
static bool flush_block(struct mm_slot *mm, uint32_t bi, bool *skipped, bool *waiting)
	NEEDS(mm->e->lock)
{
	const struct rmap_block *b = rmap_block(mm->e, bi);
	struct order *o;

	if (b->order != NIL || glance_meets(mm, block_span(b->key))) {
		*skipped = true;
		return true;
	}
	o = free_order(mm);
	if (!o || !send_order(mm, bi, o, waiting)) {
		*skipped = true;
		return false;
	}
	*skipped |= *waiting;
	return true;
}

/*
 * Which of the blocks that wait. RIPE: full ones, and those that have got nothing for a while,
 * though scattered ones may have to wait on; ALL_LONG: all but scattered ones; ALL_READY: all.
 */
enum which { RIPE, ALL_LONG, ALL_READY };

/*
 * May a block with new orders go at once? A scattered one that is full gains nothing by waiting,
 * unless mappings are short: then longer runs go first.
 */
static bool due_at_once(const struct mm_slot *mm, const struct rmap_block *b, enum which which)
	NEEDS(mm->e->lock)
{
	if (which == ALL_READY)
		return true;
	if (which == ALL_LONG)
		return !scattered(mm->e, b);
	return b->ready == b->tracked &&
	       !(budget_level(mm) && budget_may_wait(mm) && scattered(mm->e, b));
}

/* Blocks that got new orders. False: stop, the client takes no more. */
static bool flush_new(struct mm_slot *mm, enum which which, bool *skipped) NEEDS(mm->e->lock)
{
	for (uint32_t bi = mm->blocks[READY_NEW].first, next; bi != NIL; bi = next) {
		struct rmap_block *b = rmap_block(mm->e, bi);
		bool waiting = false;

		next = b->link[LINK_READY].next;
		if (due_at_once(mm, b, which) && !flush_block(mm, bi, skipped, &waiting))
			return false;
		if (b->on[LINK_READY] && !waiting) {
			b->flush = mm->e->nr_flushes;
			block_list_add(mm, bi, READY_OLD);
		}
	}
	return true;
}

/* Blocks that got no new orders for a while, or all; they stand in order of age. */
static bool flush_old(struct mm_slot *mm, enum which which, bool *skipped) NEEDS(mm->e->lock)
{
	for (uint32_t bi = mm->blocks[READY_OLD].first, next; bi != NIL; bi = next) {
		struct rmap_block *b = rmap_block(mm->e, bi);
		bool waiting;

		next = b->link[LINK_READY].next;
		if (which == RIPE && (uint16_t)(mm->e->nr_flushes - b->flush) < HOLD_FLUSHES)
			break;
		if (which == RIPE && budget_may_wait(mm) && scattered(mm->e, b)) {
			b->flush = mm->e->nr_flushes;
			block_list_add(mm, bi, READY_OLD);
			continue;
		}
		if (which == ALL_LONG && scattered(mm->e, b))
			continue;
		if (!flush_block(mm, bi, skipped, &waiting))
			return false;
	}
	return true;
}

static bool flush(struct mm_slot *mm, enum which which, bool *skipped) NEEDS(mm->e->lock)
{
	return flush_new(mm, which, skipped) && flush_old(mm, which, skipped);
}

static void flush_client(struct mm_slot *mm, enum engine_flush what) NEEDS(mm->e->lock)
{
	enum engine_flush now = what > mm->flush_owed ? what : mm->flush_owed;
	bool skipped = false;

	if (!mm->nr_ready) {
		mm->flush_owed = ENGINE_FLUSH_RIPE;
		return;
	}
	if (now == ENGINE_FLUSH_PASS && !mm->vmas_released)
		mm->vmas_released = flush(mm, ALL_LONG, &skipped);
	if (now != ENGINE_FLUSH_PASS || mm->vmas_released)
		flush(mm, now == ENGINE_FLUSH_RIPE ? RIPE : ALL_READY, &skipped);
	mm->flush_owed = skipped ? now : ENGINE_FLUSH_RIPE;
}

bool order_now(struct mm_slot *mm, uint32_t bi)
{
	bool skipped = false, waiting = false;

	return flush_block(mm, bi, &skipped, &waiting) && !skipped;
}

void engine_flush(struct engine *e, enum engine_flush what)
{
	struct mm_slot *mm;

	engine_lock(e);
	e->nr_flushes++;
	/* All choose first: what one refuses, another need not have alone. */
	cds_list_for_each_entry(mm, &e->mms, list) {
		mm_is_of(mm, e);
		if (mm->nr_ready)
			budget_choose(mm);
	}
	cds_list_for_each_entry(mm, &e->mms, list) {
		mm_is_of(mm, e);
		flush_client(mm, what);
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

/* Its pages are looked at again later. `moves`: those of sites to other frames, too. */
static void cancel_block(struct engine *e, uint32_t bi, bool moves) NEEDS(e->lock)
{
	for (uint64_t m = rmap_block(e, bi)->ready; m; m &= m - 1) {
		unsigned int slot = low_bit(m);

		if (rmap_state(rmap_block(e, bi), slot) != RMAP_MERGED) {
			page_set(e, bi, slot, RMAP_VOLATILE, 0);
			page_pend(e, bi, slot, false);
		} else if (moves) {
			page_move_end(e, bi, slot);
		}
	}
}

static void cancel_client(struct mm_slot *mm, bool moves) NEEDS(mm->e->lock)
{
	for (int list = READY_NEW; list <= READY_OLD; list++)
		for (uint32_t bi = mm->blocks[list].first, next; bi != NIL; bi = next) {
			next = rmap_block(mm->e, bi)->link[LINK_READY].next;
			cancel_block(mm->e, bi, moves);
		}
	if (!mm->nr_ready)
		mm->flush_owed = ENGINE_FLUSH_RIPE;
}

static void cancel(struct engine *e, bool moves) NEEDS(e->lock)
{
	struct mm_slot *mm;

	cds_list_for_each_entry(mm, &e->mms, list) {
		mm_is_of(mm, e);
		cancel_client(mm, moves);
	}
}

void engine_cancel_orders(struct engine *e)
{
	engine_lock(e);
	cancel(e, true);
	engine_unlock(e);
}

void engine_hold(struct engine *e, bool hold)
{
	engine_lock(e);
	if (hold && !e->held)
		cancel(e, false);
	__atomic_store_n(&e->held, hold, __ATOMIC_RELAXED);
	engine_unlock(e);
}

enum engine_why engine_rest(struct engine *e)
{
	enum engine_why why = WHY_NR;

	engine_lock(e);
	if (engine_rests(e))
		why = e->held ? WHY_HELD : WHY_DEBT;
	engine_unlock(e);
	return why;
}

/* --- outcomes --- */

static void failed(struct engine *e, uint32_t bi, unsigned int slot, enum ksm_res res)
	NEEDS(e->lock)
{
	struct rmap_block *b = rmap_block(e, bi);
	bool guessed = b->state[slot] & RMAP_FOLLOWED;

	e->total.order_pages_failed++;
	page_set(e, bi, slot, res == KSM_RES_GONE ? RMAP_ABSENT : RMAP_VOLATILE, 0);
	switch (res) {
	case KSM_RES_BUSY:
		page_left_out(e, bi, slot, RMAP_LEFT_PINNED);
		/* fall through */
	case KSM_RES_DIFFERENT:
		/* A wrong guess says nothing about how often a page changes. It is made once. */
		page_age(b, slot);
		page_pend(e, bi, slot, !guessed);
		break;
	case KSM_RES_FORK_SHARED:
		page_left_out(e, bi, slot, RMAP_LEFT_FORK); /* retry.c asks again */
		break;
	case KSM_RES_STALE:
	case KSM_RES_PLAIN:
		page_pend(e, bi, slot, false);
		break;
	default: /* NOMEM; NONE, which is no answer: wait until the page is written again */
		break;
	}
}

/*
 * Of a site that was to move. Whatever else the agent says, the page stands where it stood, or has
 * been written; then tracking reports it. So nothing is concluded from a failure.
 */
static void move_outcome(struct mm_slot *mm, uint32_t bi, unsigned int slot, enum ksm_res res)
	NEEDS(mm->e->lock)
{
	if (res == KSM_RES_MERGED) {
		page_set(mm->e, bi, slot, RMAP_MERGED,
			 ordered_node(mm->e, rmap_block(mm->e, bi), slot));
		mm->e->total.pages_migrated++;
		return;
	}
	page_move_end(mm->e, bi, slot);
	mm->e->total.order_pages_failed++;
	mm->move_failed = res == KSM_RES_NOMEM     ? MOVE_NO_MEMORY :
			  res == KSM_RES_DIFFERENT ? MOVE_WRITTEN :
						     MOVE_REFUSED;
}

/* As the kernel's tracepoints have it: an errno, and -EFAULT for contents that differ. */
static int trace_error(enum ksm_res res)
{
	static const int err[KSM_RES_NR] = {
		[KSM_RES_NONE] = -EFAULT,   [KSM_RES_MERGED] = 0,
		[KSM_RES_BUSY] = -EBUSY,    [KSM_RES_DIFFERENT] = -EFAULT,
		[KSM_RES_GONE] = -ENOENT,   [KSM_RES_NOMEM] = -ENOMEM,
		[KSM_RES_STALE] = -EAGAIN,  [KSM_RES_FORK_SHARED] = -EBUSY,
		[KSM_RES_INLAID] = -EFAULT, [KSM_RES_PLAIN] = -EAGAIN,
	};

	return err[res];
}

/* Zeros have no frame; their number stands for the kernel's page of zeros. */
static void trace_outcome(const struct mm_slot *mm, const struct rmap_block *b, unsigned int slot,
			  enum ksm_res res) NEEDS(mm->e->lock)
{
	uint64_t frame = ordered_frame(mm->e, b, slot);

	if (frame == KSM_FRAME_ZERO)
		USDT(ksm_merge_one_page, frame, &b->item[slot], mm, trace_error(res));
	else
		USDT(ksm_merge_with_ksm_page,
		     stable_node(&mm->e->stable, ordered_node(mm->e, b, slot)), frame,
		     &b->item[slot], mm, trace_error(res));
}

static void outcome(struct mm_slot *mm, uint32_t bi, unsigned int slot, enum ksm_res res)
	NEEDS(mm->e->lock)
{
	const struct rmap_block *b = rmap_block(mm->e, bi);
	uint32_t node = b->item[slot].s.node;

	trace_outcome(mm, b, slot, res);
	if (rmap_state(b, slot) == RMAP_MERGED) {
		move_outcome(mm, bi, slot, res);
		return;
	}
	if ((b->state[slot] & RMAP_FOLLOWED) && (res == KSM_RES_MERGED || res == KSM_RES_DIFFERENT))
		follow_outcome(mm, node == NODE_ZERO, res == KSM_RES_MERGED);
	if (res != KSM_RES_MERGED) {
		failed(mm->e, bi, slot, res);
	} else if (node == NODE_ZERO) {
		page_set(mm->e, bi, slot, RMAP_ZEROED, 0);
	} else {
		page_set(mm->e, bi, slot, RMAP_MERGED, node);
		mm->e->total.pages_merged++;
	}
}

static struct order *find_order(struct mm_slot *mm, uint32_t id) NEEDS(mm->e->lock)
{
	struct order *o = &mm->order[id % MM_MAX_ORDERS];

	return id && o->id == id ? o : NULL;
}

/*
 * A client that can inlay nothing has room for fewer pages than was thought. It chooses again in
 * the next pass, from all of them: those that are left are not what others choose.
 */
static void take_inlays(struct mm_slot *mm, uint32_t bi, uint64_t inlay, const uint8_t *result)
	NEEDS(mm->e->lock)
{
	for (; inlay; inlay &= inlay - 1)
		if (result[low_bit(inlay)] == KSM_RES_INLAID)
			page_inlaid(mm->e, bi, low_bit(inlay));
		else if (result[low_bit(inlay)] == KSM_RES_PLAIN && budget_no_inlays(mm))
			cancel_client(mm, false);
}

static void order_done(struct mm_slot *mm, struct order *o, const uint8_t *result)
	NEEDS(mm->e->lock)
{
	uint32_t bi = o->block;
	struct rmap_block *b;

	mm->vmas_reserved -= o->vmas;
	mm->move_silent = false;
	mm->nr_orders--;
	mm->e->nr_orders--;
	o->id = 0;
	if (bi == NIL)
		return;
	b = rmap_block(mm->e, bi);
	b->order = NIL;
	for (unsigned int i = 0; i < BLOCK_PAGES; i++)
		if (b->inflight >> i & 1)
			outcome(mm, bi, i, result[i]);
	take_inlays(mm, bi, o->inlay, result);
	if (b->ready)
		block_list_add(mm, bi, READY_NEW);
	block_put(mm, bi);
}

int engine_order_done(struct mm_slot *mm, uint32_t id, const uint8_t result[KSM_ORDER_PAGES])
{
	struct order *o;

	for (unsigned int i = 0; i < KSM_ORDER_PAGES; i++)
		if (result[i] >= KSM_RES_NR)
			return -EPROTO;
	engine_lock(mm->e);
	o = find_order(mm, id);
	if (o)
		order_done(mm, o, result);
	engine_unlock(mm->e);
	return o ? 0 : -EPROTO;
}
