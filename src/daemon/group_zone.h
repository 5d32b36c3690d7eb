/* SPDX-License-Identifier: MIT */
/* group_zone.h - the attributes zone/N/: the frames of a node, summed over the domains. */
#ifndef KSMD_GROUP_ZONE_H
#define KSMD_GROUP_ZONE_H

struct attr_tree;
struct daemon;

/* `d` outlives the tree. */
void group_zone_register(struct attr_tree *t, struct daemon *d);

#endif
