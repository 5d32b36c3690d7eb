/* SPDX-License-Identifier: MIT */
/* group_node.h - the attributes node/N/ and zone/N/. */
#ifndef KSMD_GROUP_NODE_H
#define KSMD_GROUP_NODE_H

struct attr_tree;
struct numa_topology;

/* `topology` outlives the tree. */
void group_node_register(struct attr_tree *t, struct numa_topology *topology);

#endif
