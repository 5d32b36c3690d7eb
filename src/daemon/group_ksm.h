/* SPDX-License-Identifier: MIT */
/* group_ksm.h - the counters ksm/ of all domains together. */
#ifndef KSMD_GROUP_KSM_H
#define KSMD_GROUP_KSM_H

struct attr_tree;
struct daemon;

/* `d` outlives the tree. */
void group_ksm_register(struct attr_tree *t, struct daemon *d);

#endif
