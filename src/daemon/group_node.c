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

#include "daemon/attr.h"
#include "daemon/domain.h"
#include "numa/numa_topology.h"
#include "pool/pool.h"

struct node_values {
	uint64_t nid, os_node, frames_start, frames_end;
};

/* frames[]: the values of a directory by type. */
struct zone_values {
	struct node_values node;
	struct pool_counts c;
	uint64_t pageblocks;
};

static const char *const type_names[POOL_TYPES] = {
	[POOL_UNMOVABLE] = "unmovable",
	[POOL_MOVABLE] = "movable",
	[POOL_RESERVE] = "reserve",
};

static int look_node(void *owner, uint64_t nid, void *values)
{
	const struct domain_table *t = owner;
	struct node_values *v = values;

	if (nid >= (uint64_t)t->topology->nr_nodes)
		return -ENOENT;
	v->nid = nid;
	v->os_node = (uint64_t)t->topology->os_node[nid];
	v->frames_start = nid * t->zone_frames;
	v->frames_end = (nid + 1) * t->zone_frames;
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
	struct zone_values *v = values;
	int err = look_node(owner, nid, &v->node);
	struct domain **d;
	unsigned int nr;

	if (err)
		return err;
	d = domain_table_snapshot(owner, &nr);
	for (unsigned int i = 0; i < nr; i++) {
		struct pool_counts c;

		engine_zone_counts(d[i]->engine, (int)nid, &c);
		add(&v->c, &c);
	}
	domain_snapshot_free(d, nr);
	v->pageblocks = v->c.pageblocks;
	return 0;
}

static void list(void *owner, struct attr_list *l)
{
	const struct domain_table *t = owner;

	for (int nid = 0; nid < t->topology->nr_nodes; nid++)
		attr_list_subject(l, (uint64_t)nid);
}

#define NODE(name, field, help) ATTR_FIELD_ALL(struct node_values, field, name, help)
static const struct attr node_attrs[] = {
	NODE("os_node", os_node, "the kernel's number of the node"),
	NODE("frames_start", frames_start, "first frame of the node, in every arena"),
	NODE("frames_end", frames_end, "frame after the last"),
};

#define ZONE(name, field, help) ATTR_FIELD(struct zone_values, field, name, help)
static const struct attr zone_attrs[] = {
	ZONE("node", node.nid, "node whose frames these are: node/N"),
	ZONE("frames_start", node.frames_start, "first frame, in every arena"),
	ZONE("frames_end", node.frames_end, "frame after the last"),
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

void group_node_register(struct attr_tree *t, struct domain_table *domains)
{
	attr_register(t, &node_group, domains);
	attr_register(t, &zone_group, domains);
}
