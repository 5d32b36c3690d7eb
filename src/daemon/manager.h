/* SPDX-License-Identifier: MIT */
/*
 * manager.h - what the daemon and a service manager say to each other: sd_notify(3), and sockets
 * that the manager made (sd_listen_fds(3)).
 *
 * Without a manager all of it does nothing. The main thread uses it.
 */
#ifndef KSMD_MANAGER_H
#define KSMD_MANAGER_H

#include <stdint.h>

#include "base/loop.h"

/* Sockets that the manager passed; -1: it passed none of that kind. */
struct manager_sockets {
	int client, control;
};

/*
 * Takes the sockets that the manager passed, by name ("client", "control") or, where they have no
 * such name, by type. They are listening, close-on-exec and non-blocking from here on, and the
 * caller's. Descriptors that are neither are closed. Call it once, before the process has threads.
 * Returns 0, or -EINVAL: only one of the two is there, or one is not a listening Unix socket.
 */
int manager_take_sockets(struct manager_sockets *s);

/*
 * A watchdog that barks unless every thread is alive. Four times in each interval that the manager
 * wants, the main thread asks the others (ask()) and looks how often each has answered; only when
 * all have answered since the last time does it tell the manager that the daemon is well.
 */
struct watchdog {
	uint64_t period_ms; /* 0: no manager wants to be told */
	struct loop_timer timer;
	void (*ask)(struct watchdog *w);
	const _Atomic uint32_t *beats; /* one for each other thread, counted up at each answer */
	unsigned int nr;
	uint32_t seen[4]; /* of beats, when the manager was told last */
};

/* The daemon serves: tell the manager, and keep telling it from this loop. nr <= 4. */
void manager_ready(struct watchdog *w, struct loop *l, void (*ask)(struct watchdog *w),
		   const _Atomic uint32_t *beats, unsigned int nr);
/* The daemon ends. */
void manager_stopping(void);

#endif
