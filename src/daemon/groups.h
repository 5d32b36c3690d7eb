/* SPDX-License-Identifier: MIT */
/*
 * groups.h - the daemon's tree of attributes: every owner's group, registered.
 *
 * A new attribute goes into the table of the group that owns it (group_*.c). A new group gets a
 * file of its own and a line in groups_register().
 */
#ifndef KSMD_GROUPS_H
#define KSMD_GROUPS_H

#include "daemon/attr.h"
#include "daemon/group_knobs.h"

struct daemon;

struct groups {
	struct attr_tree tree;
	struct knob_group knobs;
};

/* Fill in `g` (zeroed). `d` outlives it, and its sessions and scan thread exist. */
void groups_register(struct groups *g, struct daemon *d);

#endif
