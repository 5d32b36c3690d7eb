/* SPDX-License-Identifier: MIT */
/*
 * group_zone.c - see group_zone.h.
 *
 * Each domain has a pool of its own, with a zone for each node. zone/N/ sums over the domains: each
 * zone is counted at one moment of its own, so the sum is exact for every single domain, and frames
 * of two domains are counted one after the other.
 */
#include "daemon/group_zone.h"

#include <errno.h>

#include "daemon/attr.h"
#include "daemon/daemon.h"
#include "daemon/zone_text.h"
#include "pool/pool.h"

struct zone_values {
	uint64_t nid, frames_start, frames_end;
	struct pool_counts c;
	uint64_t pageblocks, offline;
};

/* Apart from the counts, because these cost a walk over the zone's pageblocks. */
struct run_values {
	uint64_t runs[POOL_ORDERS]; /* free, by order */
};

static void add(struct pool_counts *sum, const struct pool_counts *c)
{
	sum->free += c->free;
	sum->cached += c->cached;
	sum->isolated += c->isolated;
	sum->used += c->used;
	sum->retired += c->retired;
	sum->guard += c->guard;
	sum->window += c->window;
	sum->absent += c->absent;
	sum->span += c->span;
	sum->pageblocks += c->pageblocks;
	sum->offline += c->offline;
	for (int i = 0; i < POOL_TYPES; i++) {
		sum->free_of[i] += c->free_of[i];
		sum->used_of[i] += c->used_of[i];
	}
}

static int look_zone(void *owner, uint64_t nid, void *values)
{
	struct daemon *daemon = owner;
	const struct domain_table *t = &daemon->domains;
	struct zone_values *v = values;
	struct domain **d;
	unsigned int nr;

	if (nid >= (uint64_t)t->topology->nr_nodes)
		return -ENOENT;
	v->nid = nid;
	v->frames_start = nid * t->zone_frames;
	v->frames_end = (nid + 1) * t->zone_frames;
	d = domain_table_snapshot(&daemon->domains, &nr);
	for (unsigned int i = 0; i < nr; i++) {
		struct pool_counts c;

		engine_zone_counts(d[i]->engine, (int)nid, &c);
		add(&v->c, &c);
	}
	domain_snapshot_free(d, nr);
	v->pageblocks = v->c.pageblocks;
	v->offline = v->c.offline;
	return 0;
}

static int look_runs(void *owner, uint64_t nid, void *values)
{
	struct daemon *daemon = owner;
	struct run_values *v = values;
	struct domain **d;
	unsigned int nr;

	if (nid >= (uint64_t)daemon->topology->nr_nodes)
		return -ENOENT;
	d = domain_table_snapshot(&daemon->domains, &nr);
	for (unsigned int i = 0; i < nr; i++) {
		uint64_t runs[POOL_ORDERS];

		engine_zone_runs(d[i]->engine, (int)nid, POOL_TYPES, runs);
		for (unsigned int o = 0; o < POOL_ORDERS; o++)
			v->runs[o] += runs[o];
	}
	domain_snapshot_free(d, nr);
	return 0;
}

static void list(void *owner, struct attr_list *l)
{
	const struct daemon *d = owner;

	for (int nid = 0; nid < d->topology->nr_nodes; nid++)
		attr_list_subject(l, (uint64_t)nid);
}

#define ZONE(name, field, help) ATTR_FIELD(struct zone_values, field, name, help)
static const struct attr zone_attrs[] = {
	ZONE("node", nid, "node whose frames these are: node/N"),
	ZONE("frames_start", frames_start, "first frame, in every arena"),
	ZONE("frames_end", frames_end, "frame after the last"),
	ZONE("span", c.span, "frames, over all domains: the sum of the eight below"),
	ZONE("free", c.free, "free frames of pageblocks in use"),
	ZONE("cached", c.cached, "free frames kept by scan threads"),
	ZONE("isolated", c.isolated, "free frames of isolated pageblocks"),
	ZONE("used", c.used, "frames that pages stand on, or are to, and those of contig_ranges"),
	ZONE("retired", c.retired, "frames that wait for a grace period"),
	ZONE("guard", c.guard, "frames kept empty beside runs, for debugging"),
	ZONE("window_reserved", c.window,
	     "unused frames of pageblocks kept for a client's addresses"),
	ZONE("absent", c.absent, "frames of pageblocks that nobody uses"),
	ZONE("pageblocks", pageblocks, "pageblocks in use"),
	ZONE("pageblocks_offline", offline, "pageblocks taken out of use: node/N/offline"),
	ATTR_NUMBERS(struct zone_values, c.free_of, "free_by_type", zone_type_names,
		     "free, by type of pageblock"),
	ATTR_NUMBERS(struct zone_values, c.used_of, "used_by_type", zone_type_names,
		     "used, by type of pageblock"),
};

static const struct attr run_attrs[] = { ZONE_RUNS(struct run_values, runs) };

static const struct attr_group zone_group = {
	.name = "zone",
	ATTR_TABLE(zone_attrs),
	.size = sizeof(struct zone_values),
	.gather = look_zone,
	.list = list,
	.open = true,
};
static const struct attr_group run_group = {
	.name = "zone",
	ATTR_TABLE(run_attrs),
	.size = sizeof(struct run_values),
	.gather = look_runs,
	.list = list,
	.open = true,
};

void group_zone_register(struct attr_tree *t, struct daemon *d)
{
	attr_register(t, &zone_group, d);
	attr_register(t, &run_group, d);
}
