/* SPDX-License-Identifier: MIT */
/* memgroup.h - memory cgroups of a test's own, of the version that the machine has. */
#ifndef KSM_TEST_MEMGROUP_H
#define KSM_TEST_MEMGROUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct memgroup {
	char dir[128];
	const char *root; /* the group that it is in */
	int version;      /* 1 or 2 */
};

/* Make one without a limit. False, and says SKIP and why, where this user or machine cannot. */
bool memgroup_make(struct memgroup *g);
/* 0: no limit. Dies when the limit cannot be set. */
void memgroup_limit(const struct memgroup *g, uint64_t bytes);
/* What is charged to it. */
uint64_t memgroup_usage(const struct memgroup *g);
/* Move a process into it, or back out. What it holds already stays charged where it was. */
void memgroup_enter(const struct memgroup *g, pid_t pid);
void memgroup_leave(const struct memgroup *g, pid_t pid);
/* Nobody may be left in it; who has just ended is waited for. */
void memgroup_remove(struct memgroup *g);

#endif
