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

/* Write what the batch holds. On failure every page bound to one of its frames is unbound. */
void merge_write_flush(struct engine *e)
{
	struct write_batch *w = &e->write;
	struct rmap_block *b;
	uint32_t i, node, p;
	unsigned int slot;

	if (!w->nr)
		return;
	w->failing = e->ops->frame_write(e->arena, w->frame, w->buf, w->nr) < 0;
	for (i = 0; w->failing && i < w->nr; i++) {
		node = w->node[i];
		p = w->partner[i];
		/* Only its partner and pages of this block can be bound to so new a node. */
		b = rmap_block(e, w->block);
		for (slot = 0; slot < BLOCK_PAGES; slot++)
			if (rmap_state(b, slot) == RMAP_ORDERED && b->item[slot].s.node == node &&
			    w->block * BLOCK_PAGES + slot != p) {
				rmap_set(e, w->block, slot, RMAP_VOLATILE, 0);
				rmap_age(b, slot);
				rmap_pend(e, w->block, slot, true);
			}
		rmap_set(e, p / BLOCK_PAGES, p % BLOCK_PAGES, RMAP_VOLATILE, 0);
		rmap_age(rmap_block(e, p / BLOCK_PAGES), p % BLOCK_PAGES);
		rmap_pend(e, p / BLOCK_PAGES, p % BLOCK_PAGES, true);
	}
	w->failing = false;
	w->nr = 0;
}

static void write_later(struct engine *e, uint32_t bi, uint32_t node, uint32_t partner,
			const unsigned char *buf)
{
	struct write_batch *w = &e->write;
	uint32_t frame = stable_node(&e->stable, node)->frame;

	if (w->nr && (w->frame + w->nr != frame || w->buf + w->nr * PAGE_BYTES != buf ||
		      pool_nid(&e->pool, w->frame) != pool_nid(&e->pool, frame)))
		merge_write_flush(e);
	if (!w->nr) {
		w->buf = buf;
		w->frame = frame;
		w->block = bi;
	}
	w->node[w->nr] = node;
	w->partner[w->nr++] = partner;
}

/* A page and its partner from the unstable tree get a frame. False: there is none to be had. */
static bool merge_pair(struct engine *e, uint32_t bi, unsigned int slot, uint64_t hash,
		       uint32_t partner, int nid, const void *buf)
{
	uint32_t frame = frame_for(e, bi, slot, partner, nid), node;

	if (frame == POOL_NONE)
		return false;
	node = stable_new(&e->stable, tree_root(e, nid), hash, frame);
	if (node == NIL) {
		pool_free(&e->pool, frame);
		return false;
	}
	pool_set_node(&e->pool, frame, node);
	rmap_set(e, partner / BLOCK_PAGES, partner % BLOCK_PAGES, RMAP_ORDERED, node);
	rmap_set(e, bi, slot, RMAP_ORDERED, node);
	write_later(e, bi, node, partner, buf);
	return true;
}

/* A VOLATILE page that was just read and hashed: look for its like. */
void merge_page(struct engine *e, uint32_t bi, unsigned int slot, uint64_t hash, bool zero, int nid,
		const void *buf)
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
	} else if (!merge_pair(e, bi, slot, hash, partner, nid, buf)) {
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
	    e->write.failing || knob_get(e->knobs, KNOB_RUN) != KSM_RUN_MERGE)
		return;
	i = unstable_find(e, n->root, n->hash);
	if (i != NIL)
		rmap_set(e, i / BLOCK_PAGES, i % BLOCK_PAGES, RMAP_ORDERED, node);
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
 * Which of the ready pages fit into the client's budget of mappings; the others are refused.
 * Run by run, from left to right, each counted against what the ones before leave. Returns the
 * pages that fit; mm->vmas_reserved has grown by *reserved.
 */
static uint64_t within_budget(struct mm_slot *mm, uint32_t bi, uint32_t *reserved)
{
	struct engine *e = mm->e;
	struct rmap_block *b = rmap_block(e, bi);
	uint64_t left = b->ready, take = 0;
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

/* One order for the ready pages of a block. False: the client takes no more now. */
static bool send_order(struct mm_slot *mm, uint32_t bi, struct txn *t)
{
	struct engine *e = mm->e;
	struct rmap_block *b = rmap_block(e, bi);
	struct ksm_msg_txn msg;
	uint32_t reserved;
	uint64_t take = within_budget(mm, bi, &reserved), m;

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

/* The scan thread is looking at these pages: what it is told must not be older than an order. */
static bool being_tracked(const struct mm_slot *mm, const struct rmap_block *b)
{
	const struct track_window *t = &mm->e->track;
	uint64_t addr = (uint64_t)b->key * BLOCK_BYTES;

	return t->mm == mm && addr < t->end && addr + BLOCK_BYTES > t->start;
}

/* Blocks of one list. False: stop, the client takes no more. *skipped: some must be seen again. */
static bool flush_list(struct mm_slot *mm, enum block_list list, bool all, bool *skipped)
{
	struct engine *e = mm->e;
	uint32_t bi = mm->blocks[list].first, next;
	struct rmap_block *b;
	struct txn *t;

	for (; bi != NIL; bi = next) {
		b = rmap_block(e, bi);
		next = b->link[LINK_READY].next;
		if (all || b->ready == b->tracked) {
			if (b->txn != NIL || being_tracked(mm, b)) {
				*skipped = true;
				continue;
			}
			t = free_txn(mm);
			if (!t || !send_order(mm, bi, t)) {
				*skipped = true;
				return false;
			}
		}
		if (b->on[LINK_READY] && list == READY_NEW)
			block_list_add(mm, bi, READY_OLD);
	}
	return true;
}

void engine_flush(struct engine *e, bool all)
{
	struct mm_slot *mm;

	engine_lock(e);
	cds_list_for_each_entry(mm, &e->mms, list) {
		bool every = all || mm->flush_owed, skipped = false;

		if (!mm->nr_ready)
			continue;
		if (flush_list(mm, READY_NEW, every, &skipped) && every)
			flush_list(mm, READY_OLD, true, &skipped);
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

/* Mappings have become less scarce than when pages were refused: hash these again. */
void merge_requeue_refused(struct mm_slot *mm)
{
	struct engine *e = mm->e;
	uint32_t i, bi;
	unsigned int slot;

	if (!mm->left[KSM_LEFT_VMA_BUDGET] || vma_level(mm) >= mm->refused_level)
		return;
	for (i = 0; i < mm->table.cap; i++) {
		bi = mm->table.slot[i].block;
		for (slot = 0; bi != NIL && slot < BLOCK_PAGES; slot++)
			if (rmap_block(e, bi)->state[slot] & RMAP_LEFT_VMA)
				rmap_pend(e, bi, slot, false);
	}
	mm->refused_level = vma_level(mm);
}
