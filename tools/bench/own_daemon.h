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
void own_daemon_stop(struct own_daemon *d);
/* An attribute of the group `ksm`, as text. */
int own_daemon_get(struct own_daemon *d, const char *name, char *buf, size_t size);
int own_daemon_set(struct own_daemon *d, const char *name, const char *value);

#endif
