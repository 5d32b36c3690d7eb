/* SPDX-License-Identifier: MIT */
/* stop.c - the operator's wish to stop. */
#include "stop.h"

#include <errno.h>
#include <poll.h>

volatile sig_atomic_t bench_stop;
static struct pollfd other_end = { .fd = -1 };

static void on_signal(int sig)
{
	bench_stop = sig;
}

void stop_catch_signals(void)
{
	static const int sigs[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction sa = { .sa_handler = on_signal };

	for (int i = 0; i < 3; i++)
		sigaction(sigs[i], &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
}

void stop_at_hangup(int fd)
{
	other_end.fd = fd;
}

int stop_sleep_ms(unsigned int ms)
{
	if (!bench_stop && poll(&other_end, 1, (int)ms) > 0)
		bench_stop = SIGHUP;
	return bench_stop ? -EINTR : 0;
}
