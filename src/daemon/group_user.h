/* SPDX-License-Identifier: MIT */
/* group_user.h - the attributes user/UID/: what a user holds of the daemon. */
#ifndef KSMD_GROUP_USER_H
#define KSMD_GROUP_USER_H

struct attr_tree;
struct account_table;

/* `accounts` outlives the tree. */
void group_user_register(struct attr_tree *t, struct account_table *accounts);

#endif
