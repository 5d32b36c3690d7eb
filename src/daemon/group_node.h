/* SPDX-License-Identifier: MIT */
/* group_node.h - the attributes node/N/ and zone/N/. */
#ifndef KSMD_GROUP_NODE_H
#define KSMD_GROUP_NODE_H

struct attr_tree;
struct daemon;

/* `d` outlives the tree; the zones of a node are counted over all domains. */
void group_node_register(struct attr_tree *t, struct daemon *d);

#endif
