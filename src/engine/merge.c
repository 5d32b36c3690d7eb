/* SPDX-License-Identifier: MIT */
/*
 * merge.c - from "these pages hash alike" to a site of a stable node: binding, orders, outcomes.
 *
 * A page is bound to a stable node (ORDERED, ready) and its block's bound pages go to the client as
 * one order (inflight). The client compares every byte before it maps a frame, so a wrong guess,
 * from a stale hash or a collision, costs time and nothing else. A new frame is written from the
 * very buffer that was hashed, before any order for it can be sent.
 *
 * A node counts its orders (nr_ordered) like sites, so its frame stays while an order for it may
 * be carried out. When a page is dropped under an order, the client has withdrawn or replaced it
 * and will not, or no longer, map the frame there; a process forked from it may, so a frame that
 * any client was told of is retired, never freed at once.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "engine/engine_internal.h"

/*
 * A block whose pages find their partners one by one is best merged in one order: longer runs, fewer
 * calls. So orders for a part of a block wait until that many flushes (one for each thousand pages
 * scanned) have brought nothing new for it.
 */
#define HOLD_FLUSHES 8

static uint32_t limit_of_node(const struct engine *e)
{
	return knob_get(e->knobs, KNOB_MAX_PAGE_SHARING);
}

/* --- binding --- */

/* Frame after the one that the page before (bi, slot) is on or bound to; POOL_NONE if on none. */
static uint32_t frame_after_left(struct engine *e, uint32_t bi, unsigned int slot)
{
	const struct rmap_block *b = rmap_block(e, bi);
	uint32_t node;

	if (!slot) {
		bi = b->key ? rmap_find(block_mm(b), b->key - 1) : NIL;
		if (bi == NIL)
			return POOL_NONE;
		b = rmap_block(e, bi);
		slot = BLOCK_PAGES;
	}
	slot--;
	if (rmap_state(b, slot) != RMAP_MERGED && rmap_state(b, slot) != RMAP_ORDERED)
		return POOL_NONE;
	node = b->item[slot].s.node;
	return node == RMAP_ZERO ? POOL_NONE : stable_node(&e->stable, node)->frame + 1;
}

/* Best frame: next in the partner's run, else in this page's, else its place in the window. */
static uint32_t frame_for(struct engine *e, uint32_t bi, unsigned int slot, uint32_t partner,
			  int nid)
{
	const struct rmap_block *b = rmap_block(e, bi);
	uint32_t want = frame_after_left(e, partner / BLOCK_PAGES, partner % BLOCK_PAGES), window;

	if (want == POOL_NONE || want >= pool_nr_frames(&e->pool) ||
	    pool_nid(&e->pool, want) != nid || pool_is_used(&e->pool, want))
		want = frame_after_left(e, bi, slot);
	window = mm_window(block_mm(b), ((uint64_t)b->key << BLOCK_SHIFT) + slot, nid);
	return pool_alloc(&e->pool, nid, want, window);
}

/* A page and its partner from the unstable tree get a frame. False: there is none to be had. */
static bool merge_pair(struct scan_worker *w, struct engine *e, uint32_t bi, unsigned int slot,
		       uint64_t hash, uint32_t partner, int nid, unsigned int page)
{
	uint32_t frame = frame_for(e, bi, slot, partner, nid), node;
	struct fill *f = &w->fill;

	if (frame == POOL_NONE)
		return false;
	node = stable_new(&e->stable, tree_root(e, nid), hash, frame);
	if (node == NIL) {
		pool_free(&e->pool, frame);
		return false;
	}
	pool_set_node(&e->pool, frame, node);
	stable_node(&e->stable, node)->filling = STABLE_FILLING;
	f->node[f->nr] = node;
	f->frame[f->nr] = frame;
	f->partner[f->nr] = partner;
	f->page[f->nr++] = (uint8_t)page;
	rmap_set(e, partner / BLOCK_PAGES, partner % BLOCK_PAGES, RMAP_ORDERED, node);
	rmap_set(e, bi, slot, RMAP_ORDERED, node);
	return true;
}

/* A VOLATILE page that was just read and hashed: look for its like. */
void merge_page(struct scan_worker *w, struct engine *e, uint32_t bi, unsigned int slot,
		uint64_t hash, bool zero, int nid, unsigned int page)
{
	struct rmap_block *b = rmap_block(e, bi);
	int root = tree_root(e, nid);
	uint32_t node, partner;

	b->item[slot].hash[0] = (uint32_t)hash;
	b->item[slot].hash[1] = (uint32_t)(hash >> 32);
	if (zero && knob_get(e->knobs, KNOB_USE_ZERO_PAGES)) {
		rmap_set(e, bi, slot, RMAP_ORDERED, RMAP_ZERO);
		return;
	}
	node = stable_pick(&e->stable, root, hash, limit_of_node(e));
	if (node != NIL) {
		rmap_set(e, bi, slot, RMAP_ORDERED, node);
		return;
	}
	partner = unstable_find(e, root, hash);
	if (partner == NIL) {
		rmap_set(e, bi, slot, RMAP_UNSTABLE, (uint32_t)root);
	} else if (!merge_pair(w, e, bi, slot, hash, partner, nid, page)) {
		/* No frame. The page backs off, for it is hashed again until there is one. */
		rmap_age(b, slot);
		rmap_pend(e, bi, slot, true);
	}
}

/*
 * A full node has lost a site: if a page of this content waits in the unstable tree (it came when
 * all frames were full), it takes the place. Change tracking never shows a calm page again, so
 * without this it would wait for ever.
 */
void merge_refill(struct engine *e, uint32_t node)
{
	struct stable_node *n = stable_node(&e->stable, node);
	uint32_t i;

	if (n->state != STABLE_LIVE || n->nr_items + n->nr_ordered + 1 != limit_of_node(e) ||
	    n->filling == STABLE_FILL_FAILED || knob_get(e->knobs, KNOB_RUN) != KSM_RUN_MERGE)
		return;
	i = unstable_find(e, n->root, n->hash);
	if (i != NIL)
		rmap_set(e, i / BLOCK_PAGES, i % BLOCK_PAGES, RMAP_ORDERED, node);
}

/* --- new frames --- */

/* Bytes of the worker's new frames, in as few calls as they are contiguous in buffer and arena. */
static void write_frames(struct scan_worker *w, struct engine *e)
{
	struct fill *f = &w->fill;
	uint32_t i, to;

	for (i = 0; i < f->nr; i = to) {
		for (to = i + 1; to < f->nr && f->frame[to] == f->frame[to - 1] + 1 &&
				 f->page[to] == f->page[to - 1] + 1 &&
				 pool_nid(&e->pool, f->frame[to]) == pool_nid(&e->pool, f->frame[i]);
		     to++)
			;
		memset(f->failed + i,
		       e->ops->frame_write(e->arena, f->frame[i], w->buf + f->page[i] * PAGE_BYTES,
					   to - i) < 0,
		       to - i);
	}
}

/* Nothing of it was sent, so all that is bound to a node without bytes is on the ready lists. */
static void unbind_failed(struct mm_slot *mm, uint32_t bi)
{
	struct engine *e = mm->e;
	struct rmap_block *b = rmap_block(e, bi);
	uint64_t m;

	for (m = b->ready; m; m &= m - 1) {
		unsigned int slot = (unsigned int)__builtin_ctzll(m);
		uint32_t node = b->item[slot].s.node;

		if (node == RMAP_ZERO ||
		    stable_node(&e->stable, node)->filling != STABLE_FILL_FAILED)
			continue;
		rmap_set(e, bi, slot, RMAP_VOLATILE, 0);
		rmap_age(b, slot);
		rmap_pend(e, bi, slot, true);
	}
}

static void unbind_all_failed(struct engine *e)
{
	struct mm_slot *mm;
	uint32_t bi, next;
	int list;

	cds_list_for_each_entry(mm, &e->mms, list)
		for (list = READY_NEW; list <= READY_OLD; list++)
			for (bi = mm->blocks[list].first; bi != NIL; bi = next) {
				next = rmap_block(e, bi)->link[LINK_READY].next;
				unbind_failed(mm, bi);
			}
}

void merge_fill(struct scan_worker *w, struct engine *e)
{
	struct fill *f = &w->fill;
	struct stable_node *n;
	bool failed = false;
	uint32_t i;

	if (!f->nr)
		return;
	write_frames(w, e);
	engine_lock(e);
	for (i = 0; i < f->nr; i++) {
		stable_node(&e->stable, f->node[i])->filling =
			f->failed[i] ? STABLE_FILL_FAILED : STABLE_FILLED;
		failed |= f->failed[i];
	}
	if (failed)
		unbind_all_failed(e);
	for (i = 0; i < f->nr; i++) {
		n = stable_node(&e->stable, f->node[i]);
		n->filling = STABLE_FILLED;
		/* All who wanted it may have gone meanwhile. */
		if (!n->nr_items && !n->nr_ordered)
			engine_drop_node(e, f->node[i]);
	}
	f->nr = 0;
	engine_unlock(e);
}

/* --- orders --- */

/* A block as an order would leave it, for counting mappings. Index 0 is the page before slot 0. */
struct layout {
	uint32_t frame[BLOCK_PAGES + 2];
	bool inner[BLOCK_PAGES + 1]; /* boundary before slot i is inside a region */
};

static void layout_of(struct mm_slot *mm, uint32_t bi, struct layout *l)
{
	struct engine *e = mm->e;
	const struct rmap_block *b = rmap_block(e, bi);
	uint64_t pn = (uint64_t)b->key << BLOCK_SHIFT;
	const struct region *r;
	unsigned int i;
	uint64_t addr;

	l->frame[0] = pn ? vma_frame_at(mm, pn - 1) : FRAME_NONE;
	for (i = 0; i < BLOCK_PAGES; i++)
		l->frame[i + 1] = vma_frame(e, b, i);
	l->frame[BLOCK_PAGES + 1] = vma_frame_at(mm, pn + BLOCK_PAGES);
	for (i = 0, r = NULL; i <= BLOCK_PAGES; i++) {
		addr = (pn + i) << PAGE_SHIFT;
		if (!r || addr >= r->end)
			r = region_at(mm, addr);
		l->inner[i] = r && r->start < addr;
	}
}

/* Mappings that putting slots [from, to) on frames from `frame` on adds; may be negative. */
static int layout_cost(const struct layout *l, unsigned int from, unsigned int to, uint32_t frame)
{
	int cost = 0;
	unsigned int i;

	for (i = from; i <= to; i++)
		if (l->inner[i])
			cost -= (int)vma_differ(l->frame[i], l->frame[i + 1]);
	if (l->inner[from])
		cost += (int)vma_differ(l->frame[from], frame);
	if (l->inner[to])
		cost += (int)vma_differ(frame + to - from - 1, l->frame[to + 1]);
	return cost;
}

static uint32_t bound_frame(struct engine *e, const struct rmap_block *b, unsigned int slot)
{
	uint32_t node = b->item[slot].s.node;

	return node == RMAP_ZERO ? KSM_FRAME_ZERO : stable_node(&e->stable, node)->frame;
}

static void refuse(struct mm_slot *mm, uint32_t bi, unsigned int from, unsigned int to)
{
	for (; from < to; from++) {
		rmap_set(mm->e, bi, from, RMAP_VOLATILE, 0);
		rmap_left_out(mm->e, bi, from, RMAP_LEFT_VMA);
	}
	mm->refused_level = vma_level(mm);
}

/*
 * A page that is alone on a frame nobody was told of: its partner was refused or has gone. Back into
 * the unstable tree, where the frame's content must not stand a second time: the node goes first.
 */
static void unbind_lonely(struct engine *e, uint32_t bi, unsigned int slot)
{
	uint32_t root = stable_node(&e->stable, rmap_block(e, bi)->item[slot].s.node)->root;

	rmap_set(e, bi, slot, RMAP_VOLATILE, 0);
	if (unstable_find(e, (int)root, item_hash(&rmap_block(e, bi)->item[slot])) == NIL)
		rmap_set(e, bi, slot, RMAP_UNSTABLE, root);
	else
		rmap_pend(e, bi, slot, false);
}

/* Ready pages whose orders can be sent: their frames have their bytes, and somebody shares them. */
static uint64_t sendable(struct engine *e, uint32_t bi)
{
	const struct rmap_block *b = rmap_block(e, bi);
	uint64_t m, send = b->ready;

	for (m = send; m; m &= m - 1) {
		unsigned int slot = (unsigned int)__builtin_ctzll(m);
		uint32_t node = b->item[slot].s.node;
		const struct stable_node *n;

		if (node == RMAP_ZERO)
			continue;
		n = stable_node(&e->stable, node);
		if (n->filling) {
			send &= ~bit64(slot);
		} else if (!n->told && n->nr_items + n->nr_ordered == 1) {
			unbind_lonely(e, bi, slot);
			send &= ~bit64(slot);
		}
	}
	return send;
}

/*
 * Which of these ready pages fit into the client's budget of mappings; the others are refused.
 * Run by run, from left to right, each counted against what the ones before leave. Returns the
 * pages that fit; mm->vmas_reserved has grown by *reserved.
 */
static uint64_t within_budget(struct mm_slot *mm, uint32_t bi, uint64_t left, uint32_t *reserved)
{
	struct engine *e = mm->e;
	struct rmap_block *b = rmap_block(e, bi);
	uint64_t take = 0;
	struct layout l;
	int sum = 0;

	layout_of(mm, bi, &l);
	*reserved = 0;
	while (left) {
		unsigned int from = (unsigned int)__builtin_ctzll(left), to = from + 1, i;
		uint32_t frame = bound_frame(e, b, from);
		int cost = 0;

		if (frame != KSM_FRAME_ZERO) {
			while (to < BLOCK_PAGES && (left >> to & 1) &&
			       bound_frame(e, b, to) == frame + to - from)
				to++;
			cost = layout_cost(&l, from, to, frame);
		}
		left &= ~mask64(from, to);
		if (cost > 0 && (to - from < vma_min_run(vma_level(mm)) ||
				 vma_used(mm) + (uint64_t)cost > vma_limit(mm))) {
			refuse(mm, bi, from, to);
			continue;
		}
		for (i = from; i < to && frame != KSM_FRAME_ZERO; i++)
			l.frame[i + 1] = frame + i - from;
		take |= mask64(from, to);
		/* What it adds is held back until the outcome, what it saves is not. */
		sum += cost;
		if (sum > (int)*reserved) {
			mm->vmas_reserved += (uint32_t)sum - *reserved;
			*reserved = (uint32_t)sum;
		}
	}
	return take;
}

/* A new frame whose pages were refused, but perhaps for one. Returns true if it is gone. */
static bool give_up(struct engine *e, uint32_t node, uint32_t partner)
{
	struct stable_node *n = stable_node(&e->stable, node);
	const struct rmap_block *b = rmap_block(e, partner / BLOCK_PAGES);
	unsigned int slot = partner % BLOCK_PAGES;

	if (!n->nr_ordered) {
		n->filling = STABLE_FILLED;
		engine_drop_node(e, node);
		return true;
	}
	/* If the one is not the partner it is found to be alone when its order is due. */
	if (n->nr_ordered > 1 || rmap_state(b, slot) != RMAP_ORDERED ||
	    b->item[slot].s.node != node)
		return false;
	n->filling = STABLE_FILLED; /* so that it goes with its last page */
	unbind_lonely(e, partner / BLOCK_PAGES, slot);
	return true;
}

/*
 * Refusing here, where the partners are at hand, spares frames that would serve one page: they cost
 * a copy, an order and mappings, and save nothing.
 */
void merge_within_budget(struct scan_worker *w, struct engine *e, uint32_t bi)
{
	struct mm_slot *mm = block_mm(rmap_block(e, bi));
	struct fill *f = &w->fill;
	uint32_t i, kept, reserved;

	if (!vma_level(mm) || !rmap_block(e, bi)->ready)
		return;
	within_budget(mm, bi, rmap_block(e, bi)->ready, &reserved);
	mm->vmas_reserved -= reserved; /* the order reserves again */
	for (i = kept = 0; i < f->nr; i++) {
		if (give_up(e, f->node[i], f->partner[i]))
			continue;
		f->node[kept] = f->node[i];
		f->frame[kept] = f->frame[i];
		f->partner[kept] = f->partner[i];
		f->page[kept++] = f->page[i];
	}
	f->nr = kept;
}

static struct txn *free_txn(struct mm_slot *mm)
{
	unsigned int i;

	for (i = 0; i < MM_MAX_TXNS; i++)
		if (!mm->txn[i].id)
			return &mm->txn[i];
	return NULL;
}

static void mark_sent(struct mm_slot *mm, uint32_t bi, uint64_t mask)
{
	struct engine *e = mm->e;
	struct rmap_block *b = rmap_block(e, bi);
	uint64_t m;

	for (m = mask; m; m &= m - 1) {
		uint32_t node = b->item[__builtin_ctzll(m)].s.node;

		if (node != RMAP_ZERO)
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
static bool send_order(struct mm_slot *mm, uint32_t bi, struct txn *t, bool *waiting)
{
	struct engine *e = mm->e;
	struct rmap_block *b = rmap_block(e, bi);
	struct ksm_msg_txn msg;
	uint64_t send = sendable(e, bi), take, m;
	uint32_t reserved;

	*waiting = b->ready & ~send;
	take = within_budget(mm, bi, send, &reserved);
	if (!take)
		return true;
	memset(&msg, 0, sizeof(msg));
	mm->txn_seq = (mm->txn_seq + 1) & (UINT32_MAX / MM_MAX_TXNS);
	mm->txn_seq += !mm->txn_seq; /* no id is 0 */
	msg.id = mm->txn_seq * MM_MAX_TXNS + (uint32_t)(t - mm->txn);
	msg.addr = (uint64_t)b->key * BLOCK_BYTES;
	memset(msg.frame, 0xff, sizeof(msg.frame)); /* KSM_FRAME_NONE */
	for (m = take; m; m &= m - 1)
		msg.frame[__builtin_ctzll(m)] = bound_frame(e, b, (unsigned int)__builtin_ctzll(m));
	if (e->ops->send_txn(mm->client, &msg)) {
		mm->vmas_reserved -= reserved;
		return false;
	}
	*t = (struct txn){ .id = msg.id, .block = bi, .key = b->key, .vmas = reserved };
	b->txn = (uint32_t)(t - mm->txn);
	mm->nr_txns++;
	e->nr_txns++;
	e->txns++;
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
	struct txn *t;

	if (b->txn != NIL || being_tracked(mm, b)) {
		*skipped = true;
		return true;
	}
	t = free_txn(mm);
	if (!t || !send_order(mm, bi, t, waiting)) {
		*skipped = true;
		return false;
	}
	*skipped |= *waiting;
	return true;
}

/* Blocks that got new orders. False: stop, the client takes no more. */
static bool flush_new(struct mm_slot *mm, bool all, bool *skipped)
{
	struct engine *e = mm->e;
	uint32_t bi = mm->blocks[READY_NEW].first, next;
	struct rmap_block *b;

	for (; bi != NIL; bi = next) {
		bool waiting = false;

		b = rmap_block(e, bi);
		next = b->link[LINK_READY].next;
		if ((all || b->ready == b->tracked) && !flush_block(mm, bi, skipped, &waiting))
			return false;
		if (b->on[LINK_READY] && !waiting) {
			b->flush = e->nr_flushes;
			block_list_add(mm, bi, READY_OLD);
		}
	}
	return true;
}

/* Blocks that got no new orders for a while, or all; they stand in order of age. */
static void flush_old(struct mm_slot *mm, bool all, bool *skipped)
{
	struct engine *e = mm->e;
	uint32_t bi = mm->blocks[READY_OLD].first, next;
	bool waiting;

	for (; bi != NIL; bi = next) {
		const struct rmap_block *b = rmap_block(e, bi);

		next = b->link[LINK_READY].next;
		if (!all && (uint16_t)(e->nr_flushes - b->flush) < HOLD_FLUSHES)
			return;
		if (!flush_block(mm, bi, skipped, &waiting))
			return;
	}
}

void engine_flush(struct engine *e, bool all)
{
	struct mm_slot *mm;

	engine_lock(e);
	e->nr_flushes++;
	cds_list_for_each_entry(mm, &e->mms, list) {
		bool every = all || mm->flush_owed, skipped = false;

		if (!mm->nr_ready)
			continue;
		if (flush_new(mm, every, &skipped))
			flush_old(mm, every, &skipped);
		mm->flush_owed = every && skipped;
	}
	engine_unlock(e);
}

uint64_t engine_nr_orders(struct engine *e)
{
	uint64_t nr;

	engine_lock(e);
	nr = e->nr_txns + e->nr_ready;
	engine_unlock(e);
	return nr;
}

static void cancel_block(struct mm_slot *mm, uint32_t bi)
{
	struct rmap_block *b = rmap_block(mm->e, bi);

	while (b->ready) {
		unsigned int slot = (unsigned int)__builtin_ctzll(b->ready);

		rmap_set(mm->e, bi, slot, RMAP_VOLATILE, 0);
		rmap_pend(mm->e, bi, slot, false);
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
		mm->flush_owed = false;
	}
	engine_unlock(e);
}

/* --- outcomes --- */

static void outcome(struct engine *e, uint32_t bi, unsigned int slot, enum ksm_res res)
{
	struct rmap_block *b = rmap_block(e, bi);
	uint32_t node = b->item[slot].s.node;

	if (res == KSM_RES_MERGED) {
		rmap_set(e, bi, slot, node == RMAP_ZERO ? RMAP_ZEROED : RMAP_MERGED, node);
		e->pages_merged += node != RMAP_ZERO;
		return;
	}
	e->txn_pages_failed++;
	rmap_set(e, bi, slot, res == KSM_RES_GONE ? RMAP_ABSENT : RMAP_VOLATILE, 0);
	switch (res) {
	case KSM_RES_BUSY:
		rmap_left_out(e, bi, slot, RMAP_LEFT_PINNED);
		/* fall through */
	case KSM_RES_DIFFERENT:
		rmap_age(b, slot);
		rmap_pend(e, bi, slot, true);
		break;
	case KSM_RES_STALE:
		rmap_pend(e, bi, slot, false);
		break;
	default: /* NOMEM; NONE, which is no answer: wait until the page is written again */
		break;
	}
}

static struct txn *find_txn(struct mm_slot *mm, uint32_t id)
{
	struct txn *t = &mm->txn[id % MM_MAX_TXNS];

	return id && t->id == id ? t : NULL;
}

int engine_txn_done(struct mm_slot *mm, uint32_t id, const uint8_t result[KSM_TXN_PAGES])
{
	struct engine *e = mm->e;
	struct rmap_block *b;
	unsigned int i;
	struct txn *t;
	uint32_t bi;

	for (i = 0; i < KSM_TXN_PAGES; i++)
		if (result[i] >= KSM_RES_NR)
			return -EPROTO;
	engine_lock(e);
	t = find_txn(mm, id);
	if (!t) {
		engine_unlock(e);
		return -EPROTO;
	}
	bi = t->block;
	mm->vmas_reserved -= t->vmas;
	mm->nr_txns--;
	e->nr_txns--;
	t->id = 0;
	if (bi != NIL) {
		b = rmap_block(e, bi);
		b->txn = NIL;
		for (i = 0; i < BLOCK_PAGES; i++)
			if (b->inflight >> i & 1)
				outcome(e, bi, i, result[i]);
		if (b->ready)
			block_list_add(mm, bi, READY_NEW);
		rmap_put(mm, bi);
	}
	engine_unlock(e);
	return 0;
}

/*
 * Mappings have become less scarce than when pages were refused: hash these again. A client that
 * has come to rest after a pass gets all of its budget but a last share for what may come: what is
 * longer than single pages has been merged by then.
 */
void merge_requeue_refused(struct mm_slot *mm)
{
	struct engine *e = mm->e;
	uint32_t i, bi;
	unsigned int slot;

	if (!mm->left[KSM_LEFT_VMA_BUDGET]) {
		mm->vmas_released = false;
		return;
	}
	if (!mm->nr_ready && !mm->nr_txns)
		mm->vmas_released = true;
	if (vma_level(mm) >= mm->refused_level)
		return;
	for (i = 0; i < mm->table.cap; i++) {
		bi = mm->table.slot[i].block;
		for (slot = 0; bi != NIL && slot < BLOCK_PAGES; slot++)
			if (rmap_block(e, bi)->state[slot] & RMAP_LEFT_VMA)
				rmap_pend(e, bi, slot, false);
	}
	mm->refused_level = vma_level(mm);
}
