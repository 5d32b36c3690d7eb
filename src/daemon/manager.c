/* SPDX-License-Identifier: MIT */
/*
 * manager.c - see manager.h.
 *
 * A thread that hangs in the kernel (a descriptor whose close blocks, a file system that does not
 * answer) leaves a process that looks alive from outside. So the watchdog goes by the answers of
 * the threads and not by the main thread's own life.
 */
#include "daemon/manager.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/container.h"

/* ---- sockets ---- */

/* Where this descriptor belongs, NULL if nowhere. */
static int *place_of(struct manager_sockets *s, int fd, const char *name)
{
	bool seqpacket = sd_is_socket_unix(fd, SOCK_SEQPACKET, 1, NULL, 0) > 0;
	bool stream = sd_is_socket_unix(fd, SOCK_STREAM, 1, NULL, 0) > 0;
	bool client = name && !strcmp(name, "client"), control = name && !strcmp(name, "control");

	if (seqpacket && !control && s->client < 0)
		return &s->client;
	if (stream && !client && s->control < 0)
		return &s->control;
	return NULL;
}

static void free_names(char **names)
{
	for (char **n = names; n && *n; n++)
		free(*n);
	free(names);
}

int manager_take_sockets(struct manager_sockets *s)
{
	char **names = NULL;
	int nr = sd_listen_fds_with_names(1, &names);
	bool strange = false;

	*s = (struct manager_sockets){ -1, -1 };
	for (int i = 0; i < nr; i++) {
		int fd = SD_LISTEN_FDS_START + i;
		int *place = place_of(s, fd, names ? names[i] : NULL);

		if (place && !fcntl(fd, F_SETFL, O_NONBLOCK)) {
			*place = fd;
		} else {
			close(fd);
			strange = true;
		}
	}
	free_names(names);
	if (!strange && (s->client < 0) == (s->control < 0))
		return 0;
	if (s->client >= 0)
		close(s->client);
	if (s->control >= 0)
		close(s->control);
	*s = (struct manager_sockets){ -1, -1 };
	return -EINVAL;
}

/* ---- being well ---- */

static bool all_answered(struct watchdog *w)
{
	bool all = true;

	for (unsigned int i = 0; i < w->nr; i++)
		all &= w->beats[i] != w->seen[i];
	for (unsigned int i = 0; i < w->nr && all; i++)
		w->seen[i] = w->beats[i];
	return all;
}

static void feed(struct loop_timer *t, uint64_t now_ms)
{
	struct watchdog *w = container_of(t, struct watchdog, timer);

	if (all_answered(w))
		sd_notify(0, "WATCHDOG=1");
	w->ask(w);
	loop_timer_set(t, now_ms + w->period_ms);
}

void manager_ready(struct watchdog *w, struct loop *l, void (*ask)(struct watchdog *w),
		   const _Atomic uint32_t *beats, unsigned int nr)
{
	uint64_t usec = 0;

	w->ask = ask;
	w->beats = beats;
	w->nr = nr;
	if (sd_watchdog_enabled(0, &usec) > 0) {
		/* Four times, of which two tell: an answer may be just under way at one. */
		w->period_ms = usec / 4000 ? usec / 4000 : 1;
		loop_timer_add(l, &w->timer, feed);
		loop_timer_set(&w->timer, 0);
	}
	sd_notify(0, "READY=1");
}

void manager_stopping(void)
{
	sd_notify(0, "STOPPING=1");
}
