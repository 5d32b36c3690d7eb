/* SPDX-License-Identifier: MIT */
/*
 * mm_slot.c - clients: their life, and the frame numbers laid out for their memory.
 *
 * A client is in the engine's list from engine_mm_new() to engine_mm_exit(). Who scans finds it
 * there under the lock and takes a reference that keeps the object, and the client behind it,
 * usable after the exit; there is then nothing left in it to find.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine_internal.h"

#define WINDOW_BYTES ((uint64_t)POOL_EXT_FRAMES * KSM_PAGE_SIZE)
#define WINDOW_NID_BITS 6 /* up to 64 nodes */

struct mm_slot *engine_mm_new(struct engine *e, void *client, uint32_t id)
{
	struct mm_slot *mm = calloc(1, sizeof(*mm));
	int i;

	if (!mm)
		return NULL;
	mm->regions = region_array_empty(e);
	mm->no_regions = region_array_empty(e);
	if (!mm->regions || !mm->no_regions) {
		region_array_free(e, mm->regions);
		region_array_free(e, mm->no_regions);
		free(mm->dense.run);
		free(mm);
		return NULL;
	}
	urcu_ref_init(&mm->ref);
	mm->e = e;
	mm->client = client;
	mm->id = id;
	mm->max_map_count = 65530; /* the kernel's default, until the client tells */
	for (i = 0; i < BLOCK_LIST_NR; i++)
		mm->blocks[i].first = mm->blocks[i].last = NIL;
	count_bytes(e, sizeof(*mm));
	engine_lock(e);
	mm->serial = e->next_serial++;
	cds_list_add_tail(&mm->list, &e->mms);
	engine_unlock(e);
	__atomic_fetch_add(&e->nr_mms, 1, __ATOMIC_RELAXED);
	return mm;
}

void mm_get(struct mm_slot *mm)
{
	urcu_ref_get(&mm->ref);
}

static void mm_free_rcu(struct rcu_head *h)
{
	struct mm_slot *mm = caa_container_of(h, struct mm_slot, rcu);
	struct engine *e = mm->e;
	void *client = mm->client;

	region_array_free(e, mm->regions);
	count_bytes(e, -(int64_t)sizeof(*mm));
	free(mm->dense.run);
	free(mm);
	e->ops->client_release(client);
	__atomic_fetch_sub(&e->nr_mms, 1, __ATOMIC_RELEASE);
}

static void mm_release(struct urcu_ref *ref)
{
	struct mm_slot *mm = caa_container_of(ref, struct mm_slot, ref);

	assert(mm->dead);
	call_rcu(&mm->rcu, mm_free_rcu);
}

void mm_put(struct mm_slot *mm)
{
	urcu_ref_put(&mm->ref, mm_release);
}

/* Everything that hangs on a client, except itself and its references. */
static void teardown(struct mm_slot *mm)
{
	struct engine *e = mm->e;
	struct region_array *old = mm->regions;

	rmap_drop_range(mm, 0, ADDR_MAX); /* and the table itself */
	rcu_assign_pointer(mm->regions, mm->no_regions);
	mm->no_regions = NULL;
	region_array_put_all(e, old);
	mm_windows_trim(mm, 0, ADDR_MAX);
	memset(mm->txn, 0, sizeof(mm->txn));
	e->nr_txns -= mm->nr_txns;
	mm->nr_txns = 0;
	mm->vmas_reserved = 0;
	mm->vmas_ours = 0;
}

void engine_mm_exit(struct mm_slot *mm)
{
	engine_lock(mm->e);
	if (!mm->dead) {
		CMM_STORE_SHARED(mm->dead, 1);
		cds_list_del(&mm->list);
		teardown(mm);
	}
	engine_unlock(mm->e);
}

void engine_mm_set_vmas(struct mm_slot *mm, uint32_t nr_vmas, uint32_t max_map_count)
{
	engine_lock(mm->e);
	/* The client counts all of them, ours included. */
	mm->vmas_own = nr_vmas > mm->vmas_ours ? nr_vmas - (uint32_t)mm->vmas_ours : 0;
	mm->max_map_count = max_map_count;
	engine_unlock(mm->e);
}

/* --- windows --- */

static uint32_t window_index(const struct mm_slot *mm, uint32_t key)
{
	uint32_t lo = 0, hi = mm->nr_windows;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (mm->window[mid].key >= key)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

uint32_t mm_window(struct mm_slot *mm, uint64_t pn, int nid)
{
	uint32_t key = (uint32_t)(pn / POOL_EXT_FRAMES) << WINDOW_NID_BITS | (uint32_t)nid;
	uint32_t i = window_index(mm, key), frame;
	struct window *w;

	if (i == mm->nr_windows || mm->window[i].key != key) {
		frame = pool_window_get(&mm->e->pool, nid);
		if (frame == POOL_NONE)
			return POOL_NONE;
		w = realloc(mm->window, (mm->nr_windows + 1) * sizeof(*w));
		if (!w) {
			pool_window_put(&mm->e->pool, frame);
			return POOL_NONE;
		}
		mm->window = w;
		memmove(w + i + 1, w + i, (mm->nr_windows - i) * sizeof(*w));
		w[i] = (struct window){ key, frame };
		mm->nr_windows++;
		count_bytes(mm->e, sizeof(*w));
	}
	return mm->window[i].frame + (uint32_t)(pn % POOL_EXT_FRAMES);
}

/* Give back the windows of stretches in [start, end) that no live region reaches into any more. */
void mm_windows_trim(struct mm_slot *mm, uint64_t start, uint64_t end)
{
	uint32_t from = window_index(mm, (uint32_t)(start / WINDOW_BYTES) << WINDOW_NID_BITS);
	uint32_t i, kept = from;

	for (i = from; i < mm->nr_windows; i++) {
		uint64_t s = (uint64_t)(mm->window[i].key >> WINDOW_NID_BITS) * WINDOW_BYTES;
		uint32_t r = region_index(mm->regions, s);

		if (s >= end ||
		    (r < mm->regions->nr && mm->regions->r[r]->start < s + WINDOW_BYTES))
			mm->window[kept++] = mm->window[i];
		else
			pool_window_put(&mm->e->pool, mm->window[i].frame);
	}
	count_bytes(mm->e, -(int64_t)((mm->nr_windows - kept) * sizeof(*mm->window)));
	mm->nr_windows = kept;
	if (!kept) {
		free(mm->window);
		mm->window = NULL;
	}
}
