/* SPDX-License-Identifier: MIT */
/*
 * snapshot.h - one look at the daemon for files that are read one after another.
 *
 * Tools read all files of /sys/kernel/mm/ksm in turn. A look for each costs the daemon 24 times as
 * much as one for all, and the values would be of 24 moments. So what a look has shown serves the
 * other files for SNAPSHOT_MS, each of them once and for the same caller: who reads a file again
 * waits for a change in it, and looks again. A store through the view ends it.
 *
 * Any thread may call. A snapshot that is all zeros but for its lock is an empty one.
 */
#ifndef KSMD_FS_SNAPSHOT_H
#define KSMD_FS_SNAPSHOT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "tools/ksmd-fs/call.h"

#define SNAPSHOT_MS 5

struct snapshot {
	pthread_mutex_t lock; /* covers what follows */
	struct caller who;
	uint64_t until_ns;
	uint64_t served;  /* a bit for each file */
	uint64_t stores;  /* that have ended */
	struct text dump; /* a string: "NAME VALUE" in each line */
};

/* How many stores have ended: ask before a look, for snapshot_keep(). */
uint64_t snapshot_stores(struct snapshot *s);
/*
 * Append the value of `name` and a newline to `out`. `file` is its number, below 64. False: a look
 * is due.
 */
bool snapshot_serve(struct snapshot *s, const struct caller *who, unsigned int file,
		    const char *name, struct text *out);
/* What a look has shown, which has served `file`. Takes the text over. */
void snapshot_keep(struct snapshot *s, const struct caller *who, unsigned int file,
		   struct text *dump, uint64_t stores);
/* A store has ended. */
void snapshot_drop(struct snapshot *s);

#endif
