/* SPDX-License-Identifier: MIT */
/* own_daemon.h - ksmd-user as one side of a comparison. */
#ifndef KSM_BENCH_OWN_DAEMON_H
#define KSM_BENCH_OWN_DAEMON_H

#include <stddef.h>
#include <sys/types.h>

#include "config.h"
#include "round.h"

struct own_daemon {
	pid_t pid;     /* 0: none */
	char dir[108]; /* runtime directory; "" */
	int control;   /* connection to its control.sock, or -1 */
};
/*
 * Start a daemon with run = 0 and the knobs that cfg asks for, and tell these. Names its runtime
 * directory in $KSMD_RUNTIME_DIR. Undone by own_daemon_stop(), also after an error.
 */
int own_daemon_start(struct own_daemon *d, const struct bench_config *cfg, struct round *out);
/* The same with no knob set, and up to 8 arguments more; NULL ends them. */
int own_daemon_start_as(struct own_daemon *d, const char *const more[]);
void own_daemon_stop(struct own_daemon *d);
/* One command, a line with its newline. 0, and the answer; or -errno, which has been said. */
int own_daemon_request(struct own_daemon *d, const char *line, char *buf, size_t size);
/* An attribute of the group `ksm`, as text. */
int own_daemon_get(struct own_daemon *d, const char *name, char *buf, size_t size);
int own_daemon_set(struct own_daemon *d, const char *name, const char *value);

#endif
