/* SPDX-License-Identifier: MIT */
/* model.c - see model.h. */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/core.h"

enum { PAGES = MODEL_PAGES, CLIENTS = 4 };
#define BASE MODEL_BASE

static uint32_t rnd(uint64_t *rng, uint32_t n)
{
	return (uint32_t)(fake_rand(rng) % n);
}

static struct fake_client *any(struct fake *w, uint64_t *rng)
{
	int i, from = (int)rnd(rng, (uint32_t)w->nr_clients);

	for (i = 0; i < w->nr_clients; i++)
		if (w->client[(from + i) % w->nr_clients])
			return w->client[(from + i) % w->nr_clients];
	return NULL;
}

/* Outcomes come first: a client reports what it did before it does the next thing. */
static void maybe_answer(struct fake_client *c, uint64_t *rng)
{
	if (rnd(rng, 2))
		fake_agent_answer(c);
}

static void fork_from(struct fake *w, struct fake_client *p)
{
	struct fake_client *c = fake_client(w, p->base, p->nr);
	uint32_t i;

	engine_mm_set_family(c->mm, p->mm->family);
	for (i = 0; i < p->nr; i++) {
		bool cow = p->page[i].cow;

		c->page[i] = p->page[i];
		c->page[i].offered = true;
		c->page[i].pinned = false;
		c->page[i].written = c->page[i].how != FAKE_NOT_THERE;
		if (c->page[i].how == FAKE_FILE)
			ck_assert_int_eq(
				engine_adopt(c->mm, c->base + i * PAGE, 1, c->page[i].frame), 0);
		/*
		 * A child whose parent merged has its broken pages in a file mapping as well. Here
		 * it made them anonymous first.
		 */
		if (cow)
			c->page[i].cow = false;
	}
}

/* Half of them are written, and tracking reports it, before the engine hears of the move. */
static void move_page(struct fake_client *c, uint32_t from, uint32_t to, uint64_t *rng)
{
	struct fake_page *s = &c->page[from], *d = &c->page[to];
	uint32_t frame = s->frame;
	int64_t budget = 300;

	if (from == to || s->how != FAKE_FILE || !d->offered || !s->offered)
		return;
	fake_agent_answer(c);
	fake_dontneed(c, to, 1);
	d->how = FAKE_FILE;
	d->frame = frame;
	d->tag = s->tag;
	d->written = true;
	c->changes++;
	if (rnd(rng, 2)) {
		fake_store(c, to, rnd(rng, 60));
		engine_scan(c->w->e, rnd(rng, 3), &budget);
	}
	ck_assert_int_eq(engine_adopt(c->mm, c->base + to * PAGE, 1, frame), 0);
	fake_dontneed(c, from, 1);
}

void model_step(struct fake *w, uint64_t *rng)
{
	struct fake_client *c = any(w, rng);
	uint32_t p, n, i;
	uint64_t placed = 0;
	int64_t budget = 1 + rnd(rng, 300);
	int alive = 0, k;

	for (k = 0; k < w->nr_clients; k++)
		alive += w->client[k] != NULL;
	if (!c) {
		if (w->nr_clients < 60)
			fake_client(w, BASE, PAGES);
		return;
	}
	p = rnd(rng, PAGES);
	n = 1 + rnd(rng, PAGES - p < 40 ? PAGES - p : 40);
	switch (rnd(rng, 30)) {
	case 0:
	case 1:
	case 2:
		for (i = p; i < p + n; i++)
			fake_store(c, i, rnd(rng, 60));
		break;
	case 3:
		for (i = p; i < p + n; i++) /* sequences that runs can be made of */
			fake_store(c, i, 1000 + i);
		break;
	case 4:
		maybe_answer(c, rng);
		fake_del(c, p, n);
		break;
	case 5:
	case 6:
		maybe_answer(c, rng);
		fake_add(c, p, n);
		break;
	case 7:
		maybe_answer(c, rng);
		fake_dontneed(c, p, n);
		break;
	case 8:
		if (alive < CLIENTS && w->nr_clients < 60)
			fork_from(w, c);
		break;
	case 9:
		if (rnd(rng, 8) == 0)
			fake_exit(c);
		break;
	case 10:
		fake_agent_answer(c);
		move_page(c, p, rnd(rng, PAGES), rng);
		break;
	case 11:
		c->page[p].pinned = !c->page[p].pinned;
		break;
	case 12:
		engine_epoch_free(w->e, engine_epoch(w->e));
		engine_epoch_advance(w->e);
		break;
	case 13:
		w->write_fails = rnd(rng, 10) == 0;
		w->fail_percent = (int)rnd(rng, 4) * 5;
		c->full = rnd(rng, 5) == 0;
		c->huge = rnd(rng, 2);
		break;
	case 14:
		fake_set(w, KNOB_USE_ZERO_PAGES, rnd(rng, 2));
		fake_set(w, KNOB_SMART_SCAN, rnd(rng, 2));
		c->ran = rnd(rng, 3); /* it may seem to sleep while its memory is written */
		if (!fake_counters(w).frames_used)
			fake_set(w, KNOB_MERGE_ACROSS_NODES, rnd(rng, 2));
		if (rnd(rng, 20) == 0)
			engine_cancel_orders(w->e);
		engine_mm_set_vmas(c->mm, rnd(rng, 50), 150 + rnd(rng, 800));
		break;
	case 24:
		if (rnd(rng, 10) == 0)
			engine_hold(w->e, rnd(rng, 4) == 0);
		if (rnd(rng, 10) == 0)
			w->max_debt = rnd(rng, 2) * (1 + rnd(rng, 300));
		if (rnd(rng, 10) == 0)
			fake_set(w, KNOB_MIN_SHARERS, rnd(rng, 4) + 1);
		if (rnd(rng, 10) == 0)
			fake_set(w, KNOB_MERGE_DELAY_MILLISECS, rnd(rng, 2) * rnd(rng, 100));
		/* fall through */
	case 25:
		fake_tick(w, rnd(rng, 60));
		break;
	case 26: /* nodes that there are not, and the same one, too */
		engine_migrate(w->e, (int)rnd(rng, 3), (int)rnd(rng, 3));
		w->move_fails = (int)rnd(rng, 3) * 20 - (rnd(rng, 3) ? 0 : 1000);
		if (rnd(rng, 3) == 0)
			engine_migrate_client(c->mm, (int)rnd(rng, 3));
		if (rnd(rng, 3) == 0)
			engine_migrate_twins(w->e);
		if (rnd(rng, 10) == 0)
			engine_set_home(w->e, 0, (int)rnd(rng, (uint32_t)w->nr_nodes));
		break;
	case 27:
	case 28:
		w->now_ms += rnd(rng, 2) * rnd(rng, 2000);
		if (rnd(rng, 100) == 0)
			engine_migrate_end(w->e, (int)rnd(rng, ENGINE_JOBS));
		fake_migrate_step(w);
		break;
	case 29:
		fake_look(c);
		break;
	case 15:
		for (i = p; i < p + n; i++)
			c->page[i].nid = (uint8_t)rnd(rng, (uint32_t)w->nr_nodes);
		if (c->page[p].how == FAKE_FILE)
			w->frame_nid[c->page[p].frame] =
				(uint8_t)(1 + rnd(rng, (uint32_t)w->nr_nodes));
		engine_survey(w->e, rnd(rng, 200));
		w->full_nid = rnd(rng, 4) ? 0 : (uint8_t)(1 + rnd(rng, (uint32_t)w->nr_nodes));
		w->move_fails = (int)rnd(rng, 3);
		engine_bring_back(w->e, (int)rnd(rng, (uint32_t)w->nr_nodes), &placed);
		break;
	case 16:
	case 17:
		engine_flush(w->e, (enum engine_flush)rnd(rng, 3));
		break;
	case 18:
	case 19:
		fake_agent_run(c);
		break;
	case 20:
	case 21:
		fake_agent_answer(c);
		break;
	default:
		n = rnd(rng, 3);
		engine_set_worker_nid(w->e, n, (int)rnd(rng, (uint32_t)w->nr_nodes + 1) - 1);
		engine_mm_set_reader(c->mm, (int)rnd(rng, (uint32_t)w->nr_nodes + 1) - 1);
		engine_scan(w->e, n, &budget);
		break;
	}
}

/* When nothing is under way, the engine's view equals the clients' truth. */
static void compare_with_truth(struct fake *w)
{
	uint64_t sites = 0, frames = 0;
	static bool seen[3 * 4096];
	struct engine_counters n;
	struct mm_counters m;
	uint32_t p;
	int i;

	memset(seen, 0, sizeof(seen));
	for (i = 0; i < w->nr_clients; i++) {
		uint64_t mine = 0;
		bool cow = false;

		if (!w->client[i])
			continue;
		for (p = 0; p < PAGES; p++)
			if (w->client[i]->page[p].how == FAKE_FILE) {
				mine++;
				frames += !seen[w->client[i]->page[p].frame];
				seen[w->client[i]->page[p].frame] = true;
			} else {
				cow |= w->client[i]->page[p].cow;
			}
		mm_counters(w->client[i]->mm, &m);
		ck_assert_uint_eq(m.merging_pages, mine);
		/* Exact where no page was written after a merge (vma.c says why not there). */
		if (!cow)
			ck_assert_uint_eq(m.nr_vmas - w->client[i]->mm->vmas_own,
					  fake_vmas(w->client[i]));
		sites += mine;
	}
	n = fake_counters(w);
	ck_assert_uint_eq(n.pages_shared, frames);
	ck_assert_uint_eq(n.pages_shared + n.pages_sharing, sites);
	ck_assert_uint_eq(n.frames_used, frames + n.frames_retired);
}

void model_quiet(struct fake *w)
{
	int i;

	w->write_fails = w->fail_percent = 0;
	for (i = 0; i < w->nr_clients; i++)
		if (w->client[i]) {
			w->client[i]->full = false;
			w->client[i]->ran = 0;
		}
	fake_migrate(w);
	fake_passes(w, 2);
	compare_with_truth(w);
}
