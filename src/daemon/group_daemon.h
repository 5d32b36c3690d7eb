/* SPDX-License-Identifier: MIT */
/* group_daemon.h - the attributes daemon/. */
#ifndef KSMD_GROUP_DAEMON_H
#define KSMD_GROUP_DAEMON_H

struct attr_tree;
struct daemon;

/* `d` outlives the tree. */
void group_daemon_register(struct attr_tree *t, struct daemon *d);

#endif
