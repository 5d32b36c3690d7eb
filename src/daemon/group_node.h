/* SPDX-License-Identifier: MIT */
/* group_node.h - the attributes node/N/, and ksm/compact_memory, which goes to all nodes. */
#ifndef KSMD_GROUP_NODE_H
#define KSMD_GROUP_NODE_H

struct attr_tree;
struct daemon;

/* `d` outlives the tree. */
void group_node_register(struct attr_tree *t, struct daemon *d);

#endif
