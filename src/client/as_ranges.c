/* SPDX-License-Identifier: MIT */
/*
 * as_ranges.c - the table of ranges: leaves of sorted arrays, and an array of these leaves.
 *
 * A program may have tens of thousands of ranges (it protects single pages, or names them), and
 * tell the kernel something new of each page: then each call cuts a range in two or joins two. In
 * one sorted array that moved what lies behind, 20 us a call with 16,000 ranges. Here an edit moves
 * a part of one leaf, which is a page of memory, and now and then the leaves' numbers: 0.2 us
 * however many ranges there are. Neighbours with equal attributes coalesce as the kernel's VMAs do.
 *
 * Invariants, outside of edits: slot[0..nr) names the leaves in use by address, none of them empty,
 * and slot[leaf].place is where; their ranges, in that order, are sorted and disjoint; two leaves
 * that are neighbours have more than LEAF_HALF ranges together. So nr ranges take at most
 * leaves_for(nr) leaves, and as_reserve() knows how many an edit needs before it begins. Leaves
 * that were given back are a list; those from `begun` on were never touched.
 *
 * Places are not kept in the leaves: one new leaf changes those of all behind it, and a child
 * would copy each of these pages for that.
 */
#include "client/as_ranges.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "client/sysc.h"

#define LEAF_RANGES ((KSM_PAGE_SIZE - 16) / sizeof(struct as_range))
#define LEAF_HALF (LEAF_RANGES / 2)
#define NO_LEAF UINT32_MAX

struct as_leaf {
	uint32_t nr;
	uint32_t unused; /* the next of the list of leaves that are not in use */
	uint64_t pad;
	struct as_range range[LEAF_RANGES];
	uint8_t rest[KSM_PAGE_SIZE - 16 - LEAF_RANGES * sizeof(struct as_range)];
};
_Static_assert(sizeof(struct as_leaf) == KSM_PAGE_SIZE, "a leaf is found from its ranges");

#define MIN_LEAVES 16 /* at first; untouched ones cost nothing */
/* The table grows this many entries early. */
#define SPARE 128
/*
 * An edit adds at most two entries, one at each end, and makes room for them before it changes
 * anything.
 */
#define EDIT_ADDS 2

/* Two neighbours have LEAF_HALF + 1 at least; one is added for the odd one, and one to split. */
static size_t leaves_for(size_t ranges)
{
	return ranges * 2 / (LEAF_HALF + 1) + 2;
}

int as_ranges_init(void)
{
	struct as_table *t = &as.ranges;

	if (t->cap)
		return 0;
	if (!t->leaf)
		t->leaf = as_map_table(MIN_LEAVES * sizeof(*t->leaf));
	if (!t->slot)
		t->slot = as_map_table(MIN_LEAVES * sizeof(*t->slot));
	if (!t->leaf || !t->slot)
		return -ENOMEM;
	t->unused = NO_LEAF;
	t->cap = MIN_LEAVES;
	return 0;
}

void as_ranges_empty(void)
{
	as.ranges.nr = as.ranges.begun = 0;
	as.ranges.unused = NO_LEAF;
	as.nr = 0;
	as.editing = 0;
}

void as_ranges_own(void (*fn)(void *arg, const void *p, size_t len), void *arg)
{
	fn(arg, as.ranges.leaf, as.ranges.cap * sizeof(*as.ranges.leaf));
	fn(arg, as.ranges.slot, as.ranges.cap * sizeof(*as.ranges.slot));
}

/* ---- look-up ---- */

static struct as_leaf *leaf_at(uint32_t place) NEEDS(as.lock)
{
	return &as.ranges.leaf[as.ranges.slot[place].leaf];
}

static struct as_leaf *leaf_of(const struct as_range *r)
{
	return (struct as_leaf *)page_down((uintptr_t)r);
}

static uint32_t place_of(const struct as_leaf *l) NEEDS(as.lock)
{
	return as.ranges.slot[l - as.ranges.leaf].place;
}

/* The last leaf that begins at or before addr, else the first. There is a leaf. */
static struct as_leaf *find_leaf(uint64_t addr) NEEDS(as.lock)
{
	uint32_t lo = 0, hi = as.ranges.nr - 1;

	while (lo < hi) {
		uint32_t mid = hi - (hi - lo) / 2;

		if (leaf_at(mid)->range[0].start <= addr)
			lo = mid;
		else
			hi = mid - 1;
	}
	return leaf_at(lo);
}

/* The index of the leaf's first range with end > addr; its nr when there is none. */
static uint32_t find_in(const struct as_leaf *l, uint64_t addr)
{
	uint32_t lo = 0, hi = l->nr;

	while (lo < hi) {
		uint32_t mid = (lo + hi) / 2;

		if (l->range[mid].end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct as_range *as_next(const struct as_range *r)
{
	struct as_leaf *l = leaf_of(r);
	uint32_t i = (uint32_t)(r - l->range) + 1;

	if (i < l->nr)
		return &l->range[i];
	return place_of(l) + 1 < as.ranges.nr ? &leaf_at(place_of(l) + 1)->range[0] : NULL;
}

struct as_range *as_first(uint64_t addr)
{
	struct as_leaf *l;
	uint32_t i;

	if (!as.ranges.nr)
		return NULL;
	l = find_leaf(addr);
	i = find_in(l, addr);
	return i < l->nr ? &l->range[i] : as_next(&l->range[l->nr - 1]);
}

const struct as_range *as_range_at(uint64_t addr)
{
	const struct as_range *r = as_first(addr);

	return r && r->start <= addr ? r : NULL;
}

bool as_knows(uint64_t start, uint64_t end)
{
	const struct as_range *r = as_first(start);

	return r && r->start < end;
}

bool as_covers(uint64_t start, uint64_t end)
{
	for (const struct as_range *r = as_first(start); start < end; r = as_next(r)) {
		if (!r || r->start > start)
			return false;
		start = r->end;
	}
	return true;
}

/* ---- room ---- */

/* The mapping of `cap` things of this size has room for `want` then. Returns 0 or -ENOMEM. */
static int grow(void **p, size_t cap, size_t want, size_t size)
{
	long r = sysc5(SYS_mremap, *p, cap * size, want * size, MREMAP_MAYMOVE, 0);

	if (sysc_failed(r))
		return -ENOMEM;
	*p = (void *)r;
	return 0;
}

/*
 * The table grows early, so that a call that needs an entry while memory is short finds some left.
 * The most important of these is munmap.
 */
int as_reserve(size_t more)
{
	struct as_table *t = &as.ranges;
	size_t cap = t->cap;
	void *leaf = t->leaf, *slot = t->slot;
	int err;

	while (leaves_for(as.nr + more + SPARE) > cap)
		cap *= 2;
	if (cap == t->cap)
		return 0;
	err = cap < NO_LEAF ? grow(&slot, t->cap, cap, sizeof(*t->slot)) : -ENOMEM;
	if (!err) {
		t->slot = slot;
		err = grow(&leaf, t->cap, cap, sizeof(*t->leaf));
		if (err) { /* back to what the next call takes it for */
			grow(&slot, cap, t->cap, sizeof(*t->slot));
			t->slot = slot;
		}
	}
	if (err)
		return leaves_for(as.nr + more) > t->cap ? -ENOMEM : 0;
	t->leaf = leaf;
	t->cap = (uint32_t)cap;
	return 0;
}

static void put_at(uint32_t place, uint32_t leaf) NEEDS(as.lock)
{
	as.ranges.slot[place].leaf = leaf;
	as.ranges.slot[leaf].place = place;
}

/* An empty leaf at `place`. as_reserve() has seen to it that there is one. */
static struct as_leaf *add_leaf(uint32_t place) NEEDS(as.lock)
{
	struct as_table *t = &as.ranges;
	uint32_t leaf = t->unused;

	if (leaf == NO_LEAF)
		leaf = t->begun++;
	else
		t->unused = t->leaf[leaf].unused;
	for (uint32_t i = t->nr++; i > place; i--)
		put_at(i, t->slot[i - 1].leaf);
	put_at(place, leaf);
	t->leaf[leaf].nr = 0;
	return &t->leaf[leaf];
}

static void drop_leaf(struct as_leaf *l) NEEDS(as.lock)
{
	struct as_table *t = &as.ranges;
	uint32_t place = place_of(l);

	l->unused = t->unused;
	t->unused = t->slot[place].leaf;
	t->nr--;
	for (; place < t->nr; place++)
		put_at(place, t->slot[place + 1].leaf);
}

static void split_leaf(struct as_leaf *l) NEEDS(as.lock)
{
	struct as_leaf *right = add_leaf(place_of(l) + 1);

	right->nr = l->nr - LEAF_HALF;
	l->nr = LEAF_HALF;
	memcpy(right->range, &l->range[l->nr], right->nr * sizeof(l->range[0]));
}

/* Put the leaf behind `place` into that at `place`, if they are no more than half of one. */
static void join_leaves(uint32_t place) NEEDS(as.lock)
{
	struct as_leaf *l, *right;

	if (place + 1 >= as.ranges.nr)
		return;
	l = leaf_at(place);
	right = leaf_at(place + 1);
	if (l->nr + right->nr > LEAF_HALF)
		return;
	memcpy(&l->range[l->nr], right->range, right->nr * sizeof(l->range[0]));
	l->nr += right->nr;
	drop_leaf(right);
}

/* ---- single entries ---- */

/* Add a range to the table, which knows nothing of it. The caller has made room. */
static void insert(struct as_range r) NEEDS(as.lock)
{
	struct as_leaf *l = as.ranges.nr ? find_leaf(r.start) : add_leaf(0);
	uint32_t i;

	if (l->nr == LEAF_RANGES) {
		split_leaf(l);
		l = find_leaf(r.start);
	}
	i = find_in(l, r.start);
	memmove(&l->range[i + 1], &l->range[i], (l->nr - i) * sizeof(r));
	l->range[i] = r;
	l->nr++;
	as.nr++;
}

/* Take r out, and those of its leaf behind it that end at `end` or before. */
static void remove_some(struct as_range *r, uint64_t end) NEEDS(as.lock)
{
	struct as_leaf *l = leaf_of(r);
	uint32_t i = (uint32_t)(r - l->range), n = 1, place = place_of(l);

	while (i + n < l->nr && l->range[i + n].end <= end)
		n++;
	memmove(r, r + n, (l->nr - i - n) * sizeof(*r));
	l->nr -= n;
	as.nr -= n;
	if (!l->nr)
		drop_leaf(l);
	else
		join_leaves(place);
	if (place)
		join_leaves(place - 1);
}

/* Make `addr` a boundary. The caller has made room for one entry. */
static void split(uint64_t addr) NEEDS(as.lock)
{
	struct as_range *r = as_first(addr), tail;

	if (!r || r->start >= addr)
		return;
	tail = *r;
	tail.start = addr;
	r->end = addr;
	insert(tail);
}

static bool joins(const struct as_range *a, const struct as_range *b)
{
	return a->end == b->start && a->prot == b->prot && a->flags == b->flags &&
	       a->left_out == b->left_out && a->name == b->name;
}

/* Coalesce neighbours from the one that ends at `start` to the one that begins at `end`. */
static void coalesce(uint64_t start, uint64_t end) NEEDS(as.lock)
{
	struct as_range *r = as_first(start ? start - 1 : 0), *next;

	while (r && r->start <= end && (next = as_next(r))) {
		uint64_t at = r->start;

		if (joins(r, next)) {
			uint64_t to = next->end;

			remove_some(next, 0);
			r = as_first(at);
			r->end = to;
		} else {
			r = next;
		}
	}
}

/* ---- edits ---- */

static void cut(uint64_t start, uint64_t end) NEEDS(as.lock)
{
	struct as_range *r;

	split(start);
	split(end);
	while ((r = as_first(start)) && r->end <= end)
		remove_some(r, end);
}

int as_put(uint64_t start, uint64_t end, struct as_range r)
{
	r.start = start;
	r.end = end;
	if (as_reserve(EDIT_ADDS) < 0)
		return -ENOMEM;
	as.editing = 1;
	cut(start, end);
	insert(r);
	coalesce(start, end);
	as.editing = 0;
	atomic_store_explicit(&as.active, true, memory_order_relaxed);
	return 0;
}

int as_set(uint64_t start, uint64_t end, uint8_t prot, uint16_t flags, uint16_t left_out)
{
	return as_put(start, end,
		      (struct as_range){ .prot = prot, .flags = flags, .left_out = left_out });
}

void as_clear(uint64_t start, uint64_t end)
{
	struct as_range *r;

	if (!as_knows(start, end))
		return;
	/* A hole in the middle of one range needs another entry. Without memory for it the whole
	 * range is forgotten: memory that is not known is merely not merged. */
	as.editing = 1;
	if (as_reserve(EDIT_ADDS) < 0)
		while ((r = as_first(start)) && r->start < end)
			remove_some(r, 0);
	else
		cut(start, end);
	as.editing = 0;
}

int as_fill(uint64_t start, uint64_t end, uint8_t prot, uint16_t flags, uint16_t left_out)
{
	while (start < end) {
		const struct as_range *r = as_first(start);
		uint64_t gap_end = r ? u64_min(r->start, end) : end;

		if (gap_end <= start) {
			start = r->end;
			continue;
		}
		if (as_set(start, gap_end, prot, flags, left_out) < 0)
			return -ENOMEM;
		start = gap_end;
	}
	return 0;
}

int as_edit(uint64_t start, uint64_t end, void (*fn)(struct as_range *r, long arg), long arg)
{
	if (!as_knows(start, end))
		return 0;
	if (as_reserve(EDIT_ADDS) < 0)
		return -ENOMEM;
	as.editing = 1;
	split(start);
	split(end);
	for (struct as_range *r = as_first(start); r && r->start < end; r = as_next(r))
		fn(r, arg);
	coalesce(start, end);
	as.editing = 0;
	return 0;
}
