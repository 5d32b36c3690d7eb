/* SPDX-License-Identifier: MIT */
/* compacts.c - see compacts.h. */
#include "daemon/compacts.h"

#include <errno.h>

#include "base/clock.h"
#include "daemon/daemon.h"
#include "daemon/pace.h"

#define REST_TIMES 9u      /* what runs at rest pauses so many times as long as it took */
#define REST_MAX_MS 10000u /* but no longer than this */

void compacts_init(struct compacts *c, struct daemon *d)
{
	*c = (struct compacts){ .d = d };
	lock_init(&c->lock);
}

void compacts_deinit(struct compacts *c)
{
	lock_deinit(&c->lock);
}

void compacts_look(struct compacts *c, int nid, struct compacts_node *out)
{
	lock_take(&c->lock);
	*out = c->node[nid];
	lock_give(&c->lock);
}

/* A run begins in some domain. */
static void begin_run(struct compacts_node *n, bool rests)
{
	for (int i = 0; !n->active && i < 2; i++)
		n->vmas[i] = n->merged[i] = 0;
	n->rests = rests && (!n->active || n->rests);
	n->active = true;
}

int compacts_begin(struct compacts *c, int nid)
{
	unsigned int nr, begun = 0;
	struct domain **v = domain_table_snapshot(&c->d->domains, &nr);
	int err = 0;

	for (unsigned int i = 0; i < nr; i++) {
		int r = engine_compact(v[i]->engine, nid, COMPACT_ALL);

		begun += !r;
		err = r ? r : err;
	}
	if (begun) {
		lock_take(&c->lock);
		begin_run(&c->node[nid], false);
		lock_give(&c->lock);
	}
	domain_snapshot_free(v, nr);
	return begun ? 0 : err;
}

void compacts_end(struct compacts *c, int nid)
{
	unsigned int nr;
	struct domain **v = domain_table_snapshot(&c->d->domains, &nr);

	for (unsigned int i = 0; i < nr; i++)
		engine_compact_end(v[i]->engine, nid);
	domain_snapshot_free(v, nr);
}

/* --- the mover --- */

void compacts_want(struct compacts *c, struct domain **v, unsigned int nr)
{
	for (int nid = 0; nid < c->d->topology->nr_nodes; nid++)
		for (unsigned int i = 0; i < nr; i++) {
			enum engine_want want = engine_wants_compaction(v[i]->engine, nid);
			int err;

			if (!want)
				continue;
			err = engine_compact(v[i]->engine, nid,
					     want == WANT_DIRECT ? COMPACT_DIRECT :
								   COMPACT_BACKGROUND);
			lock_take(&c->lock);
			c->node[nid].stall += !err && want == WANT_DIRECT;
			c->node[nid].wake += !err && want == WANT_BACKGROUND;
			c->node[nid].deferred += err == -EAGAIN;
			if (!err)
				begin_run(&c->node[nid], false);
			lock_give(&c->lock);
		}
}

void compacts_rest(struct compacts *c, struct domain **v, unsigned int nr)
{
	for (int nid = 0; nid < c->d->topology->nr_nodes; nid++)
		for (unsigned int i = 0; i < nr; i++) {
			if (!engine_wants_gathering(v[i]->engine, nid) ||
			    engine_compact(v[i]->engine, nid, COMPACT_RESTING))
				continue;
			lock_take(&c->lock);
			begin_run(&c->node[nid], true);
			lock_give(&c->lock);
		}
}

static void add(struct compacts *c, int nid, const struct engine_compacted *v)
{
	struct compacts_node *n = &c->node[nid];

	lock_take(&c->lock);
	n->success += !v->resting && v->pageblocks;
	n->fail += !v->resting && !v->pageblocks;
	n->sum.pageblocks += v->pageblocks;
	n->sum.skipped += v->skipped;
	n->sum.migrate_scanned += v->migrate_scanned;
	n->sum.free_scanned += v->free_scanned;
	n->sum.isolated += v->isolated;
	n->sum.gathered += v->gathered;
	n->sum.stretches += v->stretches;
	n->sum.stretches_skipped += v->stretches_skipped;
	n->vmas[0] += v->vmas_before;
	n->vmas[1] += v->vmas_after;
	n->merged[0] += v->merged_before;
	n->merged[1] += v->merged_after;
	lock_give(&c->lock);
}

/* One step in one domain. True: the run goes on. *pause: it may pause now. */
static bool step(struct compacts *c, int nid, struct engine *e, uint64_t *due_ms, bool *pause)
{
	struct engine_compacted what = { 0 };
	uint64_t now = clock_ms();
	enum engine_migrate ret = engine_compact_step(e, nid, now, &what);

	if (ret == ENGINE_MIGRATE_NONE)
		return false;
	if (what.retired)
		bell_ring(&c->d->client_bell, CLIENTS_RETIRED);
	*pause |= what.pause;
	if (pace_next(ret, now, PACE_FREE_MS, due_ms))
		return true;
	add(c, nid, &what);
	return false;
}

/* What rests has taken a step: it is due again after REST_TIMES the time since the last pause. */
static uint64_t rest_until(struct compacts_pace *p)
{
	uint64_t now = clock_ms(), pause = (now - p->begun_ms) * REST_TIMES;

	if (!pause)
		return now;
	p->begun_ms = 0;
	p->due_ms = now + u64_min(pause, REST_MAX_MS);
	return p->due_ms;
}

static void step_node(struct compacts *c, int nid, bool rests, struct domain **v, unsigned int nr,
		      uint64_t *due_ms)
{
	struct compacts_pace *p = &c->pace[nid];
	bool active = false, pause = false;
	uint64_t due = CLOCK_NEVER;

	if (rests && clock_ms() < p->due_ms &&
	    knob_get(&c->d->knobs, KNOB_COMPACTION_PROACTIVENESS)) {
		*due_ms = u64_min(*due_ms, p->due_ms);
		return;
	}
	if (!p->begun_ms)
		p->begun_ms = clock_ms();
	for (unsigned int i = 0; i < nr; i++)
		active |= step(c, nid, v[i]->engine, &due, &pause);
	if (active && rests && pause)
		due = rest_until(p);
	*due_ms = u64_min(*due_ms, due);
	if (active)
		return;
	*p = (struct compacts_pace){ 0 };
	lock_take(&c->lock);
	c->node[nid].active = false;
	lock_give(&c->lock);
}

void compacts_step(struct compacts *c, struct domain **v, unsigned int nr, uint64_t *due_ms)
{
	for (int nid = 0; nid < c->d->topology->nr_nodes; nid++) {
		struct compacts_node n;

		compacts_look(c, nid, &n);
		if (n.active)
			step_node(c, nid, n.rests, v, nr, due_ms);
	}
}
