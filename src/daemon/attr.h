/* SPDX-License-Identifier: MIT */
/*
 * attr.h - the tree of settings and counters behind the control socket.
 *
 * Paths have components separated by '/', none empty; one '/' at the end is allowed. Values end with
 * a newline, as sysfs's do. Main thread only.
 */
#ifndef KSMD_ATTR_H
#define KSMD_ATTR_H

#include "base/text.h"

struct daemon;

/* Outcomes of attr_set() besides 0 and -errno. */
enum attr_outcome {
	ATTR_UNMERGING = 1, /* stored; the answer is due when daemon.unmerge is DONE */
	ATTR_LATER,         /* an unmerge is under way: try again when it is done */
};

/* Append the value. 0, -ENOENT, -EISDIR, -ENOMEM. */
int attr_get(struct daemon *d, const char *path, struct text *out);
/* 0, -ENOENT, -EISDIR, -EACCES (cannot be set), what knob_store() returns, or an outcome. */
int attr_set(struct daemon *d, const char *path, const char *value);
/* Append names, one per line, directories with '/'. 0, -ENOENT, -ENOTDIR, -ENOMEM. "" is the root. */
int attr_ls(struct daemon *d, const char *path, struct text *out);

#endif
