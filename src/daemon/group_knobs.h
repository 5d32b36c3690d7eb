/* SPDX-License-Identifier: MIT */
/*
 * group_knobs.h - the knobs ksm/run, ksm/pages_to_scan, ... of the engine, and what a
 * store to one of them sets off.
 */
#ifndef KSMD_GROUP_KNOBS_H
#define KSMD_GROUP_KNOBS_H

#include "daemon/attr.h"
#include "engine/knobs.h"

struct daemon;

struct knob_group {
	struct daemon *d;
	struct attr_group group;
	struct attr attrs[KNOB_NR];
};

/* Fill in `g` and register it. Both outlive the tree. */
void group_knobs_register(struct knob_group *g, struct attr_tree *t, struct daemon *d);

#endif
