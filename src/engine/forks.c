/* SPDX-License-Identifier: MIT */
/*
 * forks.c - how many mappings merging may add to a client that forks.
 *
 * fork(2) copies mappings one by one, and the child's end takes them away one by one: 4 us each,
 * for both (Linux 6.18). That is what some 20 private pages cost a fork. A client of 200 MB whose
 * equal pages lie scattered can get 30,000 mappings by merging, and its forks take five times as
 * long. Whoever forks once an hour does not feel it; a server that forks for each request does.
 *
 * So a client tells how often it forks, and two limits follow. One is for what the mappings cost
 * it: fork_cost_percent of a CPU, at the rate at which it forks. The other is for the single fork:
 * as many mappings as make it cost twice what it costs without merging, which is the price of its
 * pages and of its own mappings. The more generous one holds. At one fork a minute the first allows
 * 150,000 mappings, at one a second 2,500; so a client comes from one to the other gradually, and
 * one that forks rarely loses nothing.
 *
 * The rate is that of the last minutes: each fork counts half after 64 seconds. A limit comes down
 * at once and rises only by a quarter or more. A client that forks at long intervals would
 * otherwise merge before each fork what it gave back (shed.c) after the last.
 *
 * A client that lies about its forks limits its own merging. The time is that of engine_tick().
 */
#include "engine/forks.h"

#define HALF_MS 64000u
#define FORK 256u                  /* of a load: one fork just now */
#define FEW_FORKS (2 * FORK)       /* at a load below this nothing is limited */
#define LOAD_MAX (1u << 30)        /* four million forks: a second at most costs more */
#define MAPPING_NS 4000u           /* at a fork and the end of the child; see above */
#define PAGES_PER_MAPPING 32u      /* private pages that cost a fork as much, and half more */
#define ONE 4096u                  /* of a part */
#define LN2_THOUSANDTHS 693u       /* a load that halves in HALF_MS stands for this rate */
#define NS_PER_PERCENT 10000000ull /* a hundredth of a second */

/* 2^-x = 1 - 0.693 x + 0.193 x^2 for x up to 1, which is right to 0.3 %. */
static void decay(struct forks *f, uint64_t now)
{
	uint64_t ms = now > f->load_ms ? now - f->load_ms : 0;
	uint64_t halvings = ms / HALF_MS, x = ms % HALF_MS * ONE / HALF_MS, part;

	if (!halvings && !x)
		return; /* so little time would be lost in rounding */
	part = ONE - LN2_THOUSANDTHS * x / 1000 + (LN2_THOUSANDTHS - 500) * x * x / ONE / 1000;
	f->load = halvings < 32 ? (uint32_t)((f->load >> halvings) * part / ONE) : 0;
	f->load_ms = now;
}

/* Mappings that cost a client fork_cost_percent of a CPU at the rate of this load. */
static uint64_t affordable(const struct mm_slot *mm)
{
	uint64_t percent = knob_get(mm->e->knobs, KNOB_FORK_COST_PERCENT);

	return percent * NS_PER_PERCENT * FORK / MAPPING_NS * HALF_MS /
	       ((uint64_t)LN2_THOUSANDTHS * mm->forks.load);
}

/*
 * Mappings that cost a fork as much as all that it has to do without merging. What a client has
 * just given back is not known as its pages until the pass has come to it again, so the number of
 * pages falls by a 64th at a time. It may leave mappings behind which merging no longer counts;
 * they are none of the client's own, of which it had fewer.
 */
static uint64_t doubling(struct mm_slot *mm)
{
	uint64_t pages = 0;

	for (int s = RMAP_ABSENT + 1; s < RMAP_NR; s++)
		pages += mm->nr_state[s];
	mm->forks.pages = u64_max(pages, mm->forks.pages - mm->forks.pages / 64);
	if (!mm->forks.limit || mm->vmas_own < mm->forks.own)
		mm->forks.own = mm->vmas_own;
	return mm->forks.own + mm->forks.pages / PAGES_PER_MAPPING;
}

void forks_update(struct mm_slot *mm)
{
	struct forks *f = &mm->forks;
	uint64_t limit;

	if (!f->load && !f->limit)
		return;
	decay(f, mm->e->crowds.now);
	if (f->load < FEW_FORKS) {
		f->limit = 0;
		f->pages = 0;
		return;
	}
	limit = u64_min(u64_max(affordable(mm), doubling(mm)), UINT32_MAX);
	limit = u64_max(limit, 1);
	if (!f->limit || limit < f->limit || limit > f->limit + (uint64_t)f->limit / 4)
		f->limit = (uint32_t)limit;
}

void forks_count(struct mm_slot *mm, uint32_t nr)
{
	struct forks *f = &mm->forks;

	f->nr += nr;
	if (f->load)
		decay(f, mm->e->crowds.now);
	else
		f->load_ms = mm->e->crowds.now;
	f->load = (uint32_t)u64_min(f->load + (uint64_t)nr * FORK, LOAD_MAX);
	forks_update(mm);
}

uint64_t forks_limit(const struct mm_slot *mm)
{
	return mm->forks.limit ? mm->forks.limit : UINT64_MAX;
}
