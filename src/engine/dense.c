/* SPDX-License-Identifier: MIT */
/*
 * dense.c - where every page of a client is tracked.
 *
 * PAGEMAP_SCAN has a fast walk for "written" alone, half the cost per clean page of "written and
 * present". But it counts holes as written and puts markers (page tables) into them, which for a
 * reserved but empty range of 100 GiB would be 200 MiB. Where all pages are tracked there are
 * hardly any holes, so the worker uses the fast walk there. Calm memory does not change what is
 * tracked, and then nothing is computed here.
 */
#include <stdlib.h>

#include "engine/dense.h"

/* Shorter runs are not worth a call of their own: 2 MiB, one page table. */
#define MIN_RUN 8u

static int cmp_key(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static uint32_t full_blocks(const struct mm_slot *mm, uint32_t *key) NEEDS(mm->e->lock)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < mm->table.cap; i++) {
		const struct block_entry *s = &mm->table.entry[i];

		if (s->block != NIL && !~rmap_block(mm->e, s->block)->tracked)
			key[nr++] = s->key;
	}
	return nr;
}

void dense_update(struct mm_slot *mm)
{
	struct dense_map *d = &mm->dense;
	uint32_t *key, nr;

	if (d->seq == mm->tracked_seq + 1)
		return;
	d->seq = mm->tracked_seq + 1;
	d->nr = 0;
	free(d->run);
	d->run = NULL;
	key = malloc((mm->table.nr + 1) * sizeof(*key));
	if (!key)
		return; /* nothing is dense: slower, not wrong */
	nr = full_blocks(mm, key);
	d->run = malloc((nr / MIN_RUN + 1) * sizeof(*d->run));
	qsort(key, nr, sizeof(*key), cmp_key);
	for (uint32_t from = 0, i; d->run && from < nr; from = i) {
		for (i = from + 1; i < nr && key[i] == key[i - 1] + 1; i++)
			;
		if (i - from >= MIN_RUN)
			d->run[d->nr++] = (struct dense_run){ key[from], key[i - 1] };
	}
	free(key);
}

bool dense_stretch(const struct mm_slot *mm, struct span *at)
{
	const struct dense_map *d = &mm->dense;
	uint64_t key = at->start / BLOCK_BYTES, edge;
	uint32_t lo = 0, hi = d->nr;
	bool inside;

	while (lo < hi) { /* first run that ends at or after the start */
		uint32_t mid = (lo + hi) / 2;

		if (d->run[mid].last < key)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == d->nr)
		return false;
	inside = d->run[lo].first <= key;
	edge = inside ? block_span(d->run[lo].last).end : block_span(d->run[lo].first).start;
	if (edge > at->start)
		at->end = u64_min(at->end, edge);
	return inside;
}
