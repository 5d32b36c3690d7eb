/* SPDX-License-Identifier: MIT */
/* group_limit.h - the settings limit/...: how much all users together, and each, may hold. */
#ifndef KSMD_GROUP_LIMIT_H
#define KSMD_GROUP_LIMIT_H

struct attr_tree;
struct daemon;

void group_limit_register(struct attr_tree *t, struct daemon *d);

#endif
