/* SPDX-License-Identifier: MIT */
/* group_pool.h - the attributes of each domain's zones: domain/D/zone/N/, N a node. */
#ifndef KSMD_GROUP_POOL_H
#define KSMD_GROUP_POOL_H

struct attr_tree;
struct daemon;

void group_pool_register(struct attr_tree *t, struct daemon *d);

#endif
