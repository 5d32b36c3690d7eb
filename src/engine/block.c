/* SPDX-License-Identifier: MIT */
/*
 * block.c - blocks of 64 pages: the table that finds one, and the lists that they wait in.
 *
 * A client has one table from block keys to blocks. A block that is in the table has a tracked
 * page, except while the function that made it is about to track one; block_put() ends that.
 */
#include <stdlib.h>

#include "engine/allow.h"
#include "engine/block.h"
#include "engine/mm.h"

/* --- the table --- */

static uint32_t table_home(const struct block_table *t, uint32_t key)
{
	/* Knuth's multiplicative hash: the golden ratio of 2^32, upper bits. */
	return (uint32_t)(((uint64_t)(uint32_t)(key * 0x9e3779b1u) * t->cap) >> 32);
}

static uint32_t table_probe(const struct block_table *t, uint32_t key)
{
	uint32_t i = table_home(t, key);

	/* table_resize() sets all. */
	/* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult) */
	while (t->entry[i].block != NIL && t->entry[i].key != key)
		i = (i + 1) & (t->cap - 1);
	return i;
}

uint32_t block_find(const struct mm_slot *mm, uint32_t key)
{
	return mm->table.cap ? mm->table.entry[table_probe(&mm->table, key)].block : NIL;
}

uint32_t block_first_key(const struct mm_slot *mm, uint32_t from)
{
	uint32_t least = UINT32_MAX;

	for (uint32_t i = 0; i < mm->table.cap; i++) {
		const struct block_entry *s = &mm->table.entry[i];

		if (s->block != NIL && s->key >= from && s->key < least)
			least = s->key;
	}
	return least;
}

static int table_resize(struct mm_slot *mm, uint32_t cap) NEEDS(mm->e->lock)
{
	struct block_table *t = &mm->table, n = { .cap = cap, .nr = t->nr };

	n.entry = malloc(cap * sizeof(*n.entry));
	if (!n.entry)
		return -1;
	for (uint32_t i = 0; i < cap; i++)
		n.entry[i].block = NIL;
	for (uint32_t i = 0; i < t->cap; i++)
		if (t->entry[i].block != NIL)
			n.entry[table_probe(&n, t->entry[i].key)] = t->entry[i];
	count_bytes(mm->e, ((int64_t)cap - t->cap) * (int64_t)sizeof(*n.entry));
	free(t->entry);
	*t = n;
	return 0;
}

static int table_insert(struct mm_slot *mm, uint32_t key, uint32_t bi) NEEDS(mm->e->lock)
{
	struct block_table *t = &mm->table;

	if (t->nr + 1 > t->cap / 4 * 3 && table_resize(mm, t->cap ? t->cap * 2 : 16))
		return -1;
	t->entry[table_probe(t, key)] = (struct block_entry){ key, bi };
	t->nr++;
	return 0;
}

/* Close the gap: move back what would not be found any more, instead of leaving a tombstone. */
static void table_erase(struct mm_slot *mm, uint32_t key) NEEDS(mm->e->lock)
{
	struct block_table *t = &mm->table;
	uint32_t gap = table_probe(t, key), i = gap, home;

	for (;;) {
		i = (i + 1) & (t->cap - 1);
		if (t->entry[i].block == NIL)
			break;
		home = table_home(t, t->entry[i].key);
		if (((i - home) & (t->cap - 1)) >= ((i - gap) & (t->cap - 1))) {
			t->entry[gap] = t->entry[i];
			gap = i;
		}
	}
	t->entry[gap].block = NIL;
	t->nr--;
}

void block_shrink_table(struct mm_slot *mm)
{
	struct block_table *t = &mm->table;
	uint32_t cap = t->cap;

	while (cap > 16 && t->nr < cap / 8)
		cap /= 2;
	if (t->nr) {
		if (cap < t->cap)
			table_resize(mm, cap);
		return;
	}
	count_bytes(mm->e, -(int64_t)(t->cap * sizeof(*t->entry)));
	free(t->entry);
	*t = (struct block_table){ 0 };
}

/* --- the lists --- */

static const uint8_t list_link[BLOCK_LIST_NR] = { LINK_PEND, LINK_PEND, LINK_READY, LINK_READY };

void block_list_del(struct mm_slot *mm, uint32_t bi, int link)
{
	struct rmap_block *b = rmap_block(mm->e, bi);
	struct block_head *h;
	uint32_t prev = b->link[link].prev, next = b->link[link].next;

	if (!b->on[link])
		return;
	h = &mm->blocks[b->on[link] - 1];
	*(prev == NIL ? &h->first : &rmap_block(mm->e, prev)->link[link].next) = next;
	*(next == NIL ? &h->last : &rmap_block(mm->e, next)->link[link].prev) = prev;
	b->on[link] = 0;
}

void block_list_add(struct mm_slot *mm, uint32_t bi, enum block_list list)
{
	struct rmap_block *b = rmap_block(mm->e, bi);
	struct block_head *h = &mm->blocks[list];
	int link = list_link[list];

	block_list_del(mm, bi, link);
	b->on[link] = (uint8_t)(list + 1);
	b->link[link].prev = h->last;
	b->link[link].next = NIL;
	*(h->last == NIL ? &h->first : &rmap_block(mm->e, h->last)->link[link].next) = bi;
	h->last = bi;
}

void block_list_next_pass(struct mm_slot *mm)
{
	enum block_list now = block_pend_list(mm, PEND_NOW), next = block_pend_list(mm, PEND_NEXT);
	uint32_t bi;

	while ((bi = mm->blocks[next].first) != NIL && mm->blocks[now].first != NIL)
		block_list_add(mm, bi, now);
	if (mm->blocks[now].first == NIL)
		mm->pend_flip ^= 1;
}

/* --- blocks --- */

/* Where a client's blocks are to lie: with the workers that take it up before others. */
static unsigned int home_of(const struct mm_slot *mm)
{
	return mm->reader == NID_UNKNOWN ? 0 : (unsigned int)mm->reader;
}

uint32_t block_get(struct mm_slot *mm, uint32_t key, struct region *region)
{
	uint32_t bi = block_find(mm, key);
	struct rmap_block *b;

	if (bi != NIL)
		return bi;
	bi = allow_memory(mm, sizeof(*b)) ? slab_alloc(&mm->e->blocks, home_of(mm)) : SLAB_NIL;
	if (bi == SLAB_NIL)
		return NIL;
	if (table_insert(mm, key, bi)) {
		slab_free(&mm->e->blocks, bi);
		return NIL;
	}
	b = rmap_block(mm->e, bi);
	b->key = key;
	b->order = NIL;
	region_get(region);
	b->region = region;
	return bi;
}

/* As the copy's links say. */
static void list_replace(struct mm_slot *mm, int link, uint32_t to) NEEDS(mm->e->lock)
{
	const struct rmap_block *b = rmap_block(mm->e, to);
	uint32_t prev = b->link[link].prev, next = b->link[link].next;
	struct block_head *h;

	if (!b->on[link])
		return;
	h = &mm->blocks[b->on[link] - 1];
	*(prev == NIL ? &h->first : &rmap_block(mm->e, prev)->link[link].next) = to;
	*(next == NIL ? &h->last : &rmap_block(mm->e, next)->link[link].prev) = to;
}

void block_replace(struct engine *e, uint32_t bi, uint32_t to)
{
	const struct rmap_block *b = rmap_block(e, to);
	struct mm_slot *mm = block_mm(b);

	mm_is_of(mm, e);
	assert(block_find(mm, b->key) == bi);
	mm->table.entry[table_probe(&mm->table, b->key)].block = to;
	for (int link = 0; link < LINK_NR; link++)
		list_replace(mm, link, to);
	if (b->order != NIL)
		mm->order[b->order].block = to;
}

void block_put(struct mm_slot *mm, uint32_t bi)
{
	struct rmap_block *b = rmap_block(mm->e, bi);
	struct region *region = b->region;

	if (b->tracked)
		return;
	for (int link = 0; link < LINK_NR; link++)
		block_list_del(mm, bi, link);
	/* The outcome of its order is still to come, and finds no block then. */
	if (b->order != NIL)
		mm->order[b->order].block = NIL;
	table_erase(mm, b->key);
	slab_free(&mm->e->blocks, bi);
	allow_memory_less(mm);
	region_put(region);
}
