/* SPDX-License-Identifier: MIT */
/*
 * as_ranges.c - the table of ranges as a sorted array.
 *
 * The array is searched by bisection and edited with memmove. Neighbours with equal attributes
 * coalesce as the kernel's VMAs do, so there are few; a tree would cost more than it saves.
 */
#include "client/as_ranges.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "client/sysc.h"

/* The table grows this many entries early. */
#define SPARE 128
/*
 * An edit adds at most two entries, one at each end, and makes room for them before it changes
 * anything.
 */
#define EDIT_ADDS 2

size_t as_find(uint64_t addr)
{
	size_t lo = 0, hi = as.nr;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (as.range[mid].end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

const struct as_range *as_range_at(uint64_t addr)
{
	size_t i = as_find(addr);

	return i < as.nr && as.range[i].start <= addr ? &as.range[i] : NULL;
}

bool as_knows(uint64_t start, uint64_t end)
{
	size_t i = as_find(start);

	return i < as.nr && as.range[i].start < end;
}

bool as_covers(uint64_t start, uint64_t end)
{
	for (size_t i = as_find(start); start < end; i++) {
		if (i == as.nr || as.range[i].start > start)
			return false;
		start = as.range[i].end;
	}
	return true;
}

/*
 * The table grows early, so that a call that needs an entry while memory is short finds some left.
 * The most important of these is munmap.
 */
int as_reserve(size_t more)
{
	size_t cap = as.cap;
	long r;

	while (as.nr + more + SPARE > cap)
		cap *= 2;
	if (cap == as.cap)
		return 0;
	r = sysc5(SYS_mremap, as.range, as.cap * sizeof(*as.range), cap * sizeof(*as.range),
		  MREMAP_MAYMOVE, 0);
	if (sysc_failed(r))
		return as.nr + more > as.cap ? -ENOMEM : 0;
	as.range = (struct as_range *)r;
	as.cap = cap;
	return 0;
}

static void insert_at(size_t i, struct as_range r) NEEDS(as.lock)
{
	memmove(&as.range[i + 1], &as.range[i], (as.nr - i) * sizeof(r));
	as.range[i] = r;
	as.nr++;
}

static void remove_at(size_t i, size_t n) NEEDS(as.lock)
{
	memmove(&as.range[i], &as.range[i + n], (as.nr - i - n) * sizeof(as.range[0]));
	as.nr -= n;
}

/* Make `addr` a boundary. The caller has made room for one entry. */
static void split(uint64_t addr) NEEDS(as.lock)
{
	size_t i = as_find(addr);
	struct as_range tail;

	if (i == as.nr || as.range[i].start >= addr)
		return;
	tail = as.range[i];
	tail.start = addr;
	as.range[i].end = addr;
	insert_at(i + 1, tail);
}

static bool joins(const struct as_range *a, const struct as_range *b)
{
	return a->end == b->start && a->prot == b->prot && a->flags == b->flags &&
	       a->left_out == b->left_out;
}

/* Coalesce entries from the one before index i up to address `end`. */
static void coalesce(size_t i, uint64_t end) NEEDS(as.lock)
{
	if (i > 0)
		i--;
	while (i + 1 < as.nr && as.range[i].start <= end) {
		if (joins(&as.range[i], &as.range[i + 1])) {
			as.range[i].end = as.range[i + 1].end;
			remove_at(i + 1, 1);
		} else {
			i++;
		}
	}
}

static void cut(uint64_t start, uint64_t end) NEEDS(as.lock)
{
	size_t i, n = 0;

	split(start);
	split(end);
	i = as_find(start);
	while (i + n < as.nr && as.range[i + n].end <= end)
		n++;
	if (n)
		remove_at(i, n);
}

int as_set(uint64_t start, uint64_t end, uint8_t prot, uint16_t flags, uint16_t left_out)
{
	struct as_range r = { start, end, prot, flags, left_out };
	size_t i;

	if (as_reserve(EDIT_ADDS) < 0)
		return -ENOMEM;
	as.editing = 1;
	cut(start, end);
	i = as_find(start);
	insert_at(i, r);
	coalesce(i, end);
	as.editing = 0;
	atomic_store_explicit(&as.active, true, memory_order_relaxed);
	return 0;
}

void as_clear(uint64_t start, uint64_t end)
{
	if (!as_knows(start, end))
		return;
	/* A hole in the middle of one range needs another entry. Without memory for it the whole
	 * range is forgotten: memory that is not known is merely not merged. */
	as.editing = 1;
	if (as_reserve(EDIT_ADDS) < 0) {
		size_t i = as_find(start);

		while (i < as.nr && as.range[i].start < end)
			remove_at(i, 1);
	} else {
		cut(start, end);
	}
	as.editing = 0;
}

int as_fill(uint64_t start, uint64_t end, uint8_t prot, uint16_t flags, uint16_t left_out)
{
	while (start < end) {
		size_t i = as_find(start);
		uint64_t gap_end = i < as.nr ? u64_min(as.range[i].start, end) : end;

		if (gap_end <= start) {
			start = as.range[i].end;
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
	size_t first;

	if (!as_knows(start, end))
		return 0;
	if (as_reserve(EDIT_ADDS) < 0)
		return -ENOMEM;
	as.editing = 1;
	split(start);
	split(end);
	first = as_find(start);
	for (size_t i = first; i < as.nr && as.range[i].start < end; i++)
		fn(&as.range[i], arg);
	coalesce(first, end);
	as.editing = 0;
	return 0;
}
