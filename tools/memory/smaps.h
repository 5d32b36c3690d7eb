/* SPDX-License-Identifier: MIT */
/* smaps.h - what /proc/PID/smaps says of a process's mappings. */
#ifndef KSM_TOOLS_SMAPS_H
#define KSM_TOOLS_SMAPS_H

#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

struct mapping {
	uint64_t start, end;
	uint64_t rss, anonymous, swap; /* bytes */
	const char *kind;              /* why it could not be merged (kinds.h), or "not_offered" */
	char name[64];                 /* of its file, or "[heap]"; "" has none */
};

/* NULL with errno: the process has gone, or the caller may not look at it. */
FILE *smaps_open(pid_t pid);
/* The next mapping. Returns 1, or 0 at the end. */
int smaps_next(FILE *f, struct mapping *m);

#endif
