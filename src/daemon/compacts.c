/* SPDX-License-Identifier: MIT */
/* compacts.c - see compacts.h. */
#include "daemon/compacts.h"

#include <errno.h>

#include "base/clock.h"
#include "daemon/daemon.h"
#include "daemon/pace.h"

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

int compacts_begin(struct compacts *c, int nid)
{
	unsigned int nr, begun = 0;
	struct domain **v = domain_table_snapshot(&c->d->domains, &nr);
	int err = 0;

	for (unsigned int i = 0; i < nr; i++) {
		int r = engine_compact(v[i]->engine, nid, false);

		begun += !r;
		err = r ? r : err;
	}
	if (begun) {
		lock_take(&c->lock);
		if (!c->node[nid].active)
			c->node[nid].sum.vmas_before = c->node[nid].sum.vmas_after = 0;
		c->node[nid].active = true;
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
			err = engine_compact(v[i]->engine, nid, true);
			lock_take(&c->lock);
			c->node[nid].stall += !err && want == WANT_DIRECT;
			c->node[nid].wake += !err && want == WANT_BACKGROUND;
			c->node[nid].deferred += err == -EAGAIN;
			c->node[nid].active |= !err;
			lock_give(&c->lock);
		}
}

static void add(struct compacts *c, int nid, const struct engine_compacted *v)
{
	struct compacts_node *n = &c->node[nid];

	lock_take(&c->lock);
	n->success += v->pageblocks > 0;
	n->fail += !v->pageblocks;
	n->sum.pageblocks += v->pageblocks;
	n->sum.skipped += v->skipped;
	n->sum.migrate_scanned += v->migrate_scanned;
	n->sum.free_scanned += v->free_scanned;
	n->sum.isolated += v->isolated;
	n->sum.vmas_before += v->vmas_before;
	n->sum.vmas_after += v->vmas_after;
	lock_give(&c->lock);
}

static void step_node(struct compacts *c, int nid, struct domain **v, unsigned int nr,
		      uint64_t *due_ms)
{
	bool active = false;

	for (unsigned int i = 0; i < nr; i++) {
		struct engine_compacted what = { 0 };
		uint64_t now = clock_ms();
		enum engine_migrate ret = engine_compact_step(v[i]->engine, nid, now, &what);

		if (ret == ENGINE_MIGRATE_NONE)
			continue;
		if (what.retired)
			bell_ring(&c->d->client_bell, CLIENTS_RETIRED);
		if (pace_next(ret, now, PACE_FREE_MS, due_ms))
			active = true;
		else
			add(c, nid, &what);
	}
	if (active)
		return;
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
			step_node(c, nid, v, nr, due_ms);
	}
}
