/* SPDX-License-Identifier: MIT */
/*
 * counters.c - what the operator is shown.
 *
 * The engine keeps every figure up as things happen. Reading them costs nothing that grows with
 * memory, except mm_counters()'s sum over a client's regions.
 */
#include <errno.h>
#include <string.h>

#include "engine/core.h"
#include "engine/budget.h"
#include "engine/settle.h"
#include "pool/index.h"

static uint64_t metadata_bytes(struct engine *e) NEEDS(e->lock)
{
	return e->blocks.bytes + e->crowds.slab.bytes + e->stable.nodes.bytes +
	       pool_bytes(&e->pool) + __atomic_load_n(&e->table_bytes, __ATOMIC_RELAXED);
}

static uint64_t tracked(const uint64_t nr_state[RMAP_NR])
{
	uint64_t sum = 0;

	for (int s = RMAP_ABSENT + 1; s < RMAP_NR; s++)
		sum += nr_state[s];
	return sum;
}

/* For want of mappings `forks` pages are left out because their clients fork often. */
static void left_out(const uint64_t left[KSM_LEFT_NR], uint64_t forks,
		     const uint64_t nr_state[RMAP_NR], uint64_t *out)
{
	for (int i = 0; i < KSM_LEFT_NR; i++)
		out[i] += left[i];
	out[KSM_LEFT_VMA_BUDGET] -= forks;
	out[KSM_LEFT_FORK_BUDGET] += forks;
	out[KSM_LEFT_COW_BROKEN] += nr_state[RMAP_COWED];
	out[KSM_LEFT_FOREIGN] += nr_state[RMAP_FOREIGN];
}

static void page_counters(struct engine *e, struct engine_counters *out) NEEDS(e->lock)
{
	uint64_t all = tracked(e->nr_state);
	uint64_t placed = e->nr_state[RMAP_MERGED] + e->nr_state[RMAP_UNSTABLE] +
			  e->nr_state[RMAP_WAITING] + e->nr_state[RMAP_ZEROED];

	out->pages_shared += e->stable.nr_shared;
	out->pages_sharing += e->nr_state[RMAP_MERGED] - e->stable.nr_shared;
	out->pages_unshared += e->nr_state[RMAP_UNSTABLE];
	out->pages_waiting += e->nr_state[RMAP_WAITING];
	out->pages_volatile += all - placed;
	out->pages_tracked += all;
	out->zero_pages += e->nr_state[RMAP_ZEROED];
}

void engine_totals_add(struct engine_totals *to, const struct engine_totals *from)
{
	uint64_t *sum = (uint64_t *)to;
	const uint64_t *more = (const uint64_t *)from;

	/* One after the other, so that a total which is new cannot be left out. */
	for (size_t i = 0; i < sizeof(*to) / sizeof(*sum); i++)
		sum[i] += more[i];
}

void engine_counters(struct engine *e, struct engine_counters *out)
{
	engine_lock(e);
	page_counters(e, out);
	out->stable_node_chains += e->stable.nr_chains;
	out->stable_node_dups += e->stable.nr_dups;
	out->frames_used += e->pool.nr_used;
	out->frames_retired += e->stable.nr_retired;
	out->frames_away += e->stable.nr_away;
	out->pages_indebted +=
		e->nr_state[RMAP_MERGED] + e->nr_state[RMAP_ZEROED] + e->nr_state[RMAP_ORDERED];
	out->nr_indebted += e->indebted;
	out->frames_met += e->stable.nr_meets;
	engine_totals_add(&out->total, &e->total);
	out->metadata_bytes += metadata_bytes(e);
	left_out(e->left, e->left_for_forks, e->nr_state, out->left_out);
	engine_unlock(e);
}

/* Merged pages of a client that are read on node `nid`, or from it. */
static uint64_t read_from(const struct mm_slot *mm, int nid, bool here) NEEDS(mm->e->lock)
{
	if (mm->reader == NID_UNKNOWN)
		return 0;
	return here ? mm->on_nid[nid] : mm->nr_state[RMAP_MERGED] - mm->on_nid[nid];
}

void mm_counters(struct mm_slot *mm, struct mm_counters *out)
{
	memset(out, 0, sizeof(*out));
	engine_lock(mm->e);
	out->rmap_items = tracked(mm->nr_state);
	out->merging_pages = mm->nr_state[RMAP_MERGED];
	out->zero_pages = mm->nr_state[RMAP_ZEROED];
	out->reader = mm->reader;
	out->read_here = read_from(mm, mm->reader, true);
	out->read_remote = read_from(mm, mm->reader, false);
	memcpy(out->on_nid, mm->on_nid, (size_t)mm->e->nr_nodes * sizeof(*mm->on_nid));
	out->nr_regions = mm->regions->nr;
	for (uint32_t l = 0; l < mm->regions->nr_leaves; l++)
		for (uint32_t i = 0; i < mm->regions->leaf[l]->nr; i++)
			out->region_bytes += span_len(mm->regions->leaf[l]->r[i]->at);
	out->nr_vmas = mm->vmas_own + mm->vmas_ours;
	out->added_vmas = mm->vmas_ours;
	out->cow_breaks = mm->cow_breaks;
	out->orders = mm->nr_orders + mm->nr_ready;
	out->metadata_bytes = mm_bytes(mm->e) + mm->table.nr * sizeof(struct rmap_block) +
			      mm->table.cap * sizeof(*mm->table.entry) +
			      mm->nr_windows * sizeof(*mm->window) +
			      mm->regions->nr * (sizeof(struct region) + sizeof(struct region *));
	left_out(mm->left, mm->forks.told ? mm->left[KSM_LEFT_VMA_BUDGET] : 0, mm->nr_state,
		 out->left_out);
	out->forks = mm->forks.nr;
	out->fork_budget = budget_is_for_forks(mm) ? mm->forks.limit : 0;
	engine_unlock(mm->e);
}

void engine_node_counters(struct engine *e, int nid, struct engine_node_counters *out)
{
	const struct stable_place *p = &e->stable.place[nid];
	struct mm_slot *mm;

	engine_lock(e);
	out->shared += p->shared;
	out->sharing += p->sites - p->shared;
	out->copies += p->copies;
	out->own += p->own;
	out->elsewhere += p->elsewhere;
	cds_list_for_each_entry(mm, &e->mms, list) {
		mm_is_of(mm, e);
		if (mm->reader != nid)
			continue;
		out->readers++;
		out->read_here += read_from(mm, nid, true);
		out->read_remote += read_from(mm, nid, false);
		for (int n = 0; n < e->nr_nodes; n++)
			out->read_distance += mm->on_nid[n] * e->distance[nid][n];
	}
	engine_unlock(e);
}

void engine_zone_counts(struct engine *e, int nid, struct pool_counts *out)
{
	/* The pool's locks are below the engine's. Taken alone, nothing waits for a worker. */
	pool_counts(&e->pool, nid, out);
}

void engine_zone_runs(struct engine *e, int nid, unsigned int type, uint64_t *nr)
{
	index_runs(&e->pool, nid, type, nr);
}

bool engine_zone_map(struct engine *e, int nid, uint32_t *extent, char *map)
{
	return index_map(&e->pool, nid, extent, map);
}

int engine_rmap_walk(struct engine *e, uint32_t frame,
		     void (*fn)(void *arg, uint32_t client_id, uint64_t addr), void *arg)
{
	uint32_t node;
	int nr = -ENOENT;

	engine_lock(e);
	node = pool_word(&e->pool, frame);
	if (node != POOL_NONE) {
		nr = 0;
		for (uint32_t i = stable_node(&e->stable, node)->first; i != NIL; nr++) {
			const struct rmap_block *b = rmap_block(e, i / BLOCK_PAGES);

			fn(arg, block_mm(b)->id, block_pn(b, i % BLOCK_PAGES) << PAGE_SHIFT);
			i = b->item[i % BLOCK_PAGES].s.next;
		}
	}
	engine_unlock(e);
	return nr;
}

void engine_on_node(struct engine *e, int nid, struct engine_on_node *out)
{
	engine_lock(e);
	out->used = e->stable.nr_on[nid];
	out->retired = stable_nr_retired_on(&e->stable, nid);
	engine_unlock(e);
}
