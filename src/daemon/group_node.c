/* SPDX-License-Identifier: MIT */
/*
 * group_node.c - see group_node.h.
 *
 * Each domain has a pool of its own, with a zone for each node. zone/N/ sums over the domains: each
 * zone is counted at one moment of its own, so the sum is exact for every single domain, and frames
 * of two domains are counted one after the other.
 */
#include "daemon/group_node.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/attr.h"
#include "daemon/daemon.h"
#include "daemon/mover.h"
#include "numa/numa_topology.h"
#include "pool/index.h"
#include "pool/pool.h"

/* failed[]: frames by enum engine_move_failed, which begins with "not". */
struct node_values {
	uint64_t nid, os_node, frames_start, frames_end;
	char migrate_to[16];
	uint64_t success, fail, collisions, failed[MOVE_FAILED_NR - 1];
	char culprit[128];
};

struct zone_values {
	uint64_t nid, frames_start, frames_end;
	struct pool_counts c;
	uint64_t pageblocks;
};

/* Apart from the counts, because these cost a walk over the zone's pageblocks. */
struct run_values {
	uint64_t runs[POOL_ORDERS]; /* free, by order */
};

static const char *const type_names[POOL_TYPES] = {
	[POOL_UNMOVABLE] = "unmovable",
	[POOL_MOVABLE] = "movable",
	[POOL_RESERVE] = "reserve",
};

static const char *const failed_names[MOVE_FAILED_NR - 1] = {
	[MOVE_SILENT - 1] = "silent",       [MOVE_REFUSED - 1] = "refused",
	[MOVE_WRITTEN - 1] = "written",     [MOVE_NO_MAPPINGS - 1] = "no_mappings",
	[MOVE_NO_MEMORY - 1] = "no_memory", [MOVE_IN_USE - 1] = "in_use",
};

static void look_mover(struct daemon *d, int nid, struct node_values *v)
{
	struct mover_counts c;
	const struct engine_culprit *who = &c.sum.culprit;
	int to = mover_counts(d->mover, nid, &c);

	strcpy(v->migrate_to, "none");
	if (to >= 0)
		snprintf(v->migrate_to, sizeof(v->migrate_to), "%d", to);
	v->success = c.sum.frames;
	v->collisions = c.sum.collisions;
	for (int i = 1; i < MOVE_FAILED_NR; i++) {
		v->failed[i - 1] = c.sum.failed[i];
		v->fail += c.sum.failed[i];
	}
	if (who->why)
		snprintf(v->culprit, sizeof(v->culprit), "domain %u frame %u client %d %s",
			 c.domain, who->frame, c.pid, failed_names[who->why - 1]);
	else
		strcpy(v->culprit, "none");
}

static int look_node(void *owner, uint64_t nid, void *values)
{
	struct daemon *d = owner;
	const struct domain_table *t = &d->domains;
	struct node_values *v = values;

	if (nid >= (uint64_t)t->topology->nr_nodes)
		return -ENOENT;
	v->nid = nid;
	v->os_node = (uint64_t)t->topology->os_node[nid];
	v->frames_start = nid * t->zone_frames;
	v->frames_end = (nid + 1) * t->zone_frames;
	look_mover(d, (int)nid, v);
	return 0;
}

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

		engine_zone_runs(d[i]->engine, (int)nid, runs);
		for (unsigned int o = 0; o < POOL_ORDERS; o++)
			v->runs[o] += runs[o];
	}
	domain_snapshot_free(d, nr);
	return 0;
}

/* The three are in the form of the kernel's: /proc/buddyinfo, debugfs extfrag. */
static void show_buddyinfo(const struct attr *a, const void *values, struct text *out)
{
	const struct run_values *v = values;

	(void)a;
	for (unsigned int o = 0; o < POOL_ORDERS; o++)
		text_printf(out, "%s%llu", o ? " " : "", (unsigned long long)v->runs[o]);
	text_printf(out, "\n");
}

static void show_index(const struct run_values *v,
		       int (*index)(const uint64_t nr[POOL_ORDERS], unsigned int order),
		       struct text *out)
{
	for (unsigned int o = 0; o < POOL_ORDERS; o++) {
		int i = index(v->runs, o);

		text_printf(out, "%s%s%d.%03d", o ? " " : "", i < 0 ? "-" : "", abs(i) / 1000,
			    abs(i) % 1000);
	}
	text_printf(out, "\n");
}

static void show_unusable(const struct attr *a, const void *values, struct text *out)
{
	(void)a;
	show_index(values, index_unusable, out);
}

static void show_extfrag(const struct attr *a, const void *values, struct text *out)
{
	(void)a;
	show_index(values, index_fragmentation, out);
}

static void list(void *owner, struct attr_list *l)
{
	const struct daemon *d = owner;

	for (int nid = 0; nid < d->topology->nr_nodes; nid++)
		attr_list_subject(l, (uint64_t)nid);
}

/* "none" ends what is under way. */
static int store_migrate_to(void *owner, uint64_t nid, const struct attr *a, const char *value)
{
	struct daemon *d = owner;
	unsigned long to;
	char *end;

	(void)a;
	if (!strcmp(value, "none")) {
		mover_end(d->mover, (int)nid);
		return 0;
	}
	if (*value < '0' || *value > '9')
		return -EINVAL;
	to = strtoul(value, &end, 10);
	if (*end)
		return -EINVAL;
	return mover_begin(d->mover, (int)nid, to < NUMA_MAX_NODES ? (int)to : NUMA_MAX_NODES);
}

#define NODE(name, field, help) ATTR_FIELD(struct node_values, field, name, help)
#define NODE_ALL(name, field, help) ATTR_FIELD_ALL(struct node_values, field, name, help)
static const struct attr node_attrs[] = {
	NODE_ALL("os_node", os_node, "the kernel's number of the node"),
	NODE_ALL("frames_start", frames_start, "first frame of the node, in every arena"),
	NODE_ALL("frames_end", frames_end, "frame after the last"),
	{
		.name = "migrate_to",
		.help = "move what stands on the node's frames to this node's; `none` puts back "
			"what has not moved. Shows the node while that is under way",
		.at = offsetof(struct node_values, migrate_to),
		.show = attr_show_text,
		.store = store_migrate_to,
	},
	NODE("pgmigrate_success", success,
	     "frames from which all pages were moved away, since the start"),
	NODE("pgmigrate_fail", fail,
	     "frames that were to be emptied, and keep pages, since the start"),
	NODE("migrate_collisions", collisions,
	     "times that a frame of the same contents was there, and took the pages, since the "
	     "start"),
	ATTR_NUMBERS(struct node_values, failed, "migrate_failed", failed_names,
		     "pgmigrate_fail by reason, since the start"),
	NODE("migrate_culprit", culprit, "the last frame that failed, and whose page kept it"),
};

#define ZONE(name, field, help) ATTR_FIELD(struct zone_values, field, name, help)
static const struct attr zone_attrs[] = {
	ZONE("node", nid, "node whose frames these are: node/N"),
	ZONE("frames_start", frames_start, "first frame, in every arena"),
	ZONE("frames_end", frames_end, "frame after the last"),
	ZONE("span", c.span, "frames, over all domains: the sum of the eight below"),
	ZONE("free", c.free, "free frames of pageblocks in use"),
	ZONE("cached", c.cached, "free frames kept by scan threads"),
	ZONE("isolated", c.isolated, "free frames of isolated pageblocks"),
	ZONE("used", c.used, "frames that pages stand on, or are to"),
	ZONE("retired", c.retired, "frames that wait for a grace period"),
	ZONE("guard", c.guard, "frames kept empty beside runs, for debugging"),
	ZONE("window_reserved", c.window,
	     "unused frames of pageblocks kept for a client's addresses"),
	ZONE("absent", c.absent, "frames of pageblocks that nobody uses"),
	ZONE("pageblocks", pageblocks, "pageblocks in use"),
	ATTR_NUMBERS(struct zone_values, c.free_of, "free_by_type", type_names,
		     "free, by type of pageblock"),
	ATTR_NUMBERS(struct zone_values, c.used_of, "used_by_type", type_names,
		     "used, by type of pageblock"),
};

static const struct attr run_attrs[] = {
	{ .name = "buddyinfo",
	  .help = "free runs of 1, 2, 4 ... 1024 frames side by side",
	  .show = show_buddyinfo },
	{ .name = "unusable_index",
	  .help = "share of the free frames that a run of 1, 2, 4 ... frames cannot have",
	  .show = show_unusable },
	{ .name = "extfrag_index",
	  .help = "why there is no free run of 1, 2, 4 ... frames: towards 0 for want of frames, "
		  "towards 1 because they are apart; -1 where there is one",
	  .show = show_extfrag },
};

static const struct attr_group node_group = {
	.name = "node",
	ATTR_TABLE(node_attrs),
	.size = sizeof(struct node_values),
	.gather = look_node,
	.list = list,
	.open = true,
};
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

void group_node_register(struct attr_tree *t, struct daemon *d)
{
	attr_register(t, &node_group, d);
	attr_register(t, &zone_group, d);
	attr_register(t, &run_group, d);
}
