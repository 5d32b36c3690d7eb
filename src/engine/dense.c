/* SPDX-License-Identifier: MIT */
/*
 * dense.c - where pages of a client are tracked: every one, some, or none.
 *
 * PAGEMAP_SCAN has a fast walk for "written" alone, half the cost per clean page of "written and
 * present". But it counts holes as written and puts markers (page tables) into them, which for a
 * reserved but empty range of 100 GiB would be 200 MiB. Where all pages are tracked there are
 * hardly any holes, so the worker uses the fast walk there.
 *
 * Where no page is tracked there is hardly any page: programs reserve terabytes of addresses and
 * use a few. The kernel passes over what has no page tables in steps of up to 512 GiB, so such a
 * range is one call, however long it is, while one for each 128 MiB took half a second for a TiB.
 *
 * Calm memory does not change what is tracked, and then nothing is computed here.
 */
#include <stdlib.h>

#include "engine/dense.h"

/* Shorter dense runs are not worth a call of their own: one page table, or one huge page. */
#define MIN_RUN 8u
/* A gap in which nothing is tracked is worth one from 128 MiB on. */
#define MIN_GAP 512u

/*
 * A block with tracked pages: its key, and below that whether all of its pages are, and no huge
 * page maps it, which the fast walk would protect (huge.c).
 */
static int cmp_entry(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static uint32_t tracked_blocks(const struct mm_slot *mm, uint64_t *entry) NEEDS(mm->e->lock)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < mm->table.cap; i++) {
		const struct block_entry *s = &mm->table.entry[i];
		const struct rmap_block *b = s->block == NIL ? NULL : rmap_block(mm->e, s->block);

		if (b && b->tracked)
			entry[nr++] = (uint64_t)s->key << 1 | (!~b->tracked && !b->huge);
	}
	return nr;
}

/* Calls end with dense runs, and are not to end within a huge page. */
static struct dense_run within_huge(struct dense_run r)
{
	const uint32_t blocks = HUGE_BYTES / BLOCK_BYTES;

	return (struct dense_run){ (r.first + blocks - 1) / blocks * blocks,
				   (r.last + 1) / blocks * blocks - 1 };
}

/*
 * Join what lies no further apart than `gap` blocks, and keep runs of `least` or more. `full`: of
 * blocks with all pages alone. v may be NULL, to count.
 */
static uint32_t make_runs(const uint64_t *entry, uint32_t nr, bool full, uint32_t gap,
			  uint32_t least, struct dense_run *v)
{
	struct dense_run run = { 0, 0 };
	bool have = false;
	uint32_t made = 0;

	for (uint32_t i = 0; i <= nr; i++) {
		uint32_t key = i < nr ? (uint32_t)(entry[i] >> 1) : 0;

		if (i < nr && full && !(entry[i] & 1))
			continue;
		if (i < nr && have && key - run.last <= gap) {
			run.last = key;
			continue;
		}
		if (full)
			run = within_huge(run);
		if (have && run.last + 1 >= run.first + least) {
			if (v)
				v[made] = run;
			made++;
		}
		run = (struct dense_run){ key, key };
		have = true;
	}
	return made;
}

/* False: no memory. */
static bool set_runs(struct dense_runs *r, const uint64_t *entry, uint32_t nr, bool full,
		     uint32_t gap, uint32_t least)
{
	uint32_t made = make_runs(entry, nr, full, gap, least, NULL);

	r->v = made ? malloc(made * sizeof(*r->v)) : NULL;
	r->nr = r->v ? made : 0;
	if (r->v)
		make_runs(entry, nr, full, gap, least, r->v);
	return r->nr == made;
}

static void drop(struct dense_map *d)
{
	free(d->all.v);
	free(d->any.v);
	*d = (struct dense_map){ .blind = true };
}

void dense_update(struct mm_slot *mm)
{
	struct dense_map *d = &mm->dense;
	uint64_t *entry;
	uint32_t nr;

	if (d->seq == mm->tracked_seq + 1)
		return;
	drop(d);
	d->seq = mm->tracked_seq + 1;
	entry = malloc((mm->table.nr + 1) * sizeof(*entry));
	if (!entry)
		return; /* nothing is dense, nothing bare: slower, not wrong */
	nr = tracked_blocks(mm, entry);
	qsort(entry, nr, sizeof(*entry), cmp_entry);
	set_runs(&d->all, entry, nr, true, 1, MIN_RUN);
	d->blind = !set_runs(&d->any, entry, nr, false, MIN_GAP, 1);
	free(entry);
}

/* The first run that ends at this block or later, or NULL. */
static const struct dense_run *run_from(const struct dense_runs *r, uint64_t key)
{
	uint32_t lo = 0, hi = r->nr;

	while (lo < hi) {
		uint32_t mid = (lo + hi) / 2;

		if (r->v[mid].last < key)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < r->nr ? &r->v[lo] : NULL;
}

bool dense_stretch(const struct mm_slot *mm, struct span *at)
{
	uint64_t key = at->start / BLOCK_BYTES, edge;
	const struct dense_run *run = run_from(&mm->dense.all, key);
	bool inside;

	if (!run)
		return false;
	inside = run->first <= key;
	edge = inside ? block_span(run->last).end : block_span(run->first).start;
	if (edge > at->start)
		at->end = u64_min(at->end, edge);
	return inside;
}

uint64_t dense_bare_until(const struct mm_slot *mm, uint64_t addr)
{
	const struct dense_run *run = run_from(&mm->dense.any, addr / BLOCK_BYTES);

	if (mm->dense.blind)
		return addr;
	return run ? u64_max(block_span(run->first).start, addr) : UINT64_MAX;
}
