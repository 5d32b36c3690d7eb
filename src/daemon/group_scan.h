/* SPDX-License-Identifier: MIT */
/* group_scan.h - what ksm/ says of the scan thread. */
#ifndef KSMD_GROUP_SCAN_H
#define KSMD_GROUP_SCAN_H

struct attr_tree;
struct scan;

/* `s` outlives the tree. */
void group_scan_register(struct attr_tree *t, struct scan *s);

#endif
