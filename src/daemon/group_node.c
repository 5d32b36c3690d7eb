/* SPDX-License-Identifier: MIT */
/* group_node.c - see group_node.h. */
#include "daemon/group_node.h"

#include <errno.h>

#include "daemon/arena.h"
#include "daemon/attr.h"
#include "numa/numa_topology.h"

struct node_values {
	uint64_t nid, os_node, frames_start, frames_end;
};

static int gather(void *owner, uint64_t nid, void *values)
{
	const struct numa_topology *topology = owner;
	struct node_values *v = values;
	uint64_t zone;

	if (nid >= (uint64_t)topology->nr_nodes)
		return -ENOENT;
	zone = arena_zone_frames(topology->nr_nodes);
	v->nid = nid;
	v->os_node = (uint64_t)topology->os_node[nid];
	v->frames_start = nid * zone;
	v->frames_end = (nid + 1) * zone;
	return 0;
}

static void list(void *owner, struct attr_list *l)
{
	const struct numa_topology *topology = owner;

	for (int nid = 0; nid < topology->nr_nodes; nid++)
		attr_list_subject(l, (uint64_t)nid);
}

#define NODE(name, field, help) ATTR_FIELD_ALL(struct node_values, field, name, help)
static const struct attr node_attrs[] = {
	NODE("os_node", os_node, "the kernel's number of the node"),
	NODE("frames_start", frames_start, "first frame of the node, in every arena"),
	NODE("frames_end", frames_end, "frame after the last"),
};
static const struct attr zone_attrs[] = {
	NODE("node", nid, "node whose frames these are: node/N"),
	NODE("frames_start", frames_start, "first frame, in every arena"),
	NODE("frames_end", frames_end, "frame after the last"),
};

static const struct attr_group node_group = {
	.name = "node",
	ATTR_TABLE(node_attrs),
	.size = sizeof(struct node_values),
	.gather = gather,
	.list = list,
	.open = true,
};
static const struct attr_group zone_group = {
	.name = "zone",
	ATTR_TABLE(zone_attrs),
	.size = sizeof(struct node_values),
	.gather = gather,
	.list = list,
	.open = true,
};

void group_node_register(struct attr_tree *t, struct numa_topology *topology)
{
	attr_register(t, &node_group, topology);
	attr_register(t, &zone_group, topology);
}
