/* SPDX-License-Identifier: MIT */
/*
 * side.h - one side of the comparison: the kernel's KSM, or a ksmd-user of our own.
 *
 * Functions return 0 or a negative errno and have then said what went wrong. -EINTR means that the
 * operator asked to stop, and says nothing.
 */
#ifndef KSM_BENCH_SIDE_H
#define KSM_BENCH_SIDE_H

#include <stdint.h>
#include <sys/types.h>

#include "config.h"
#include "own_daemon.h"
#include "round.h"

extern const char *const side_name[SIDE_NR];

struct side {
	int id;
	const struct bench_config *cfg;
	pid_t ksmd;             /* of the kernel */
	struct own_daemon user; /* of ksmd-user */
};
/* Make ready with run = 0, nothing merged, unthrottled; tell the knobs. */
int side_start(struct side *s, int id, const struct bench_config *cfg, struct round *out);
/* Undo side_start(), however far it came. May be called twice. */
void side_stop(struct side *s);
/* A knob or counter, by the name that the kernel gives it. */
int side_get(struct side *s, const char *name, uint64_t *value);
int side_set(struct side *s, const char *name, const char *value);
/* CPU time of ksmd or the daemon so far, ns. */
int side_cpu_ns(struct side *s, uint64_t *ns);
/* Bytes of memory that merging itself occupies outside the clients' own accounts. */
int side_metadata(struct side *s, uint64_t *bytes);
/* The same without what the daemon maps of files: program text, frames. */
int side_metadata_anon(struct side *s, uint64_t *bytes);

#endif
