/* SPDX-License-Identifier: MIT */
/*
 * group_scan.c - see group_scan.h. All of it is for operators: passes are short and pauses long
 * while nobody writes, so these tell when somebody does.
 */
#include "daemon/group_scan.h"

#include "daemon/attr.h"
#include "daemon/scan_thread.h"

static int gather(void *owner, uint64_t subject, void *values)
{
	(void)subject;
	scan_stats(owner, values);
	return 0;
}

#define SCAN(name, field, help) ATTR_FIELD(struct scan_stats, field, name, help)
static const struct attr attrs[] = {
	SCAN("full_scans", full_scans,
	     "complete passes over all offered memory whose orders were answered; 0 again after "
	     "run was set to 2"),
	SCAN("scan_cpu_ns", cpu_ns, "CPU time of the scan thread, in nanoseconds"),
	SCAN("idle_pause_millisecs", pause_ms,
	     "pause after the last pass that found nothing new; 0 while there is something to do"),
};

static const struct attr_group group = {
	.name = "ksm",
	ATTR_TABLE(attrs),
	.size = sizeof(struct scan_stats),
	.gather = gather,
};

void group_scan_register(struct attr_tree *t, struct scan *s)
{
	attr_register(t, &group, s);
}
