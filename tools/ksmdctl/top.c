/* SPDX-License-Identifier: MIT */
/* top.c - see top.h. */
#include "tools/ksmdctl/top.h"

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "tools/ksmdctl/sample.h"
#include "tools/ksmdctl/status.h"

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
	(void)sig;
	interrupted = 1;
}

/* Wait so long. Returns true when the user wants to end. */
static bool wait_for_quit(double seconds)
{
	struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
	double end = now_seconds() + seconds;
	bool terminal = isatty(STDIN_FILENO);
	char key;

	while (!interrupted) {
		double left = end - now_seconds();

		if (left <= 0)
			return false;
		if (poll(&in, terminal ? 1 : 0, (int)(left * 1000) + 1) > 0 &&
		    (read(STDIN_FILENO, &key, 1) != 1 || key == 'q' || key == 'Q'))
			return true;
	}
	return true;
}

/* How many clients fit on this screen; without a terminal, all of them. */
static int client_lines(void)
{
	struct winsize w;

	/* 13 lines stand above the first client, and 2 below the last. */
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) || w.ws_row == 0)
		return INT32_MAX;
	return w.ws_row > 16 ? w.ws_row - 15 : 1;
}

static void top_loop(struct talk *c, double delay, unsigned long count)
{
	bool terminal = isatty(STDOUT_FILENO);
	struct sample before, now;
	struct rates r;

	take_sample(c, &before);
	for (unsigned long i = 0; !count || i < count; i++) {
		/* The first look needs a rate, too; a short wait is enough for it. */
		if (wait_for_quit(i ? delay : RATE_SAMPLE_MS / 1000.0))
			return;
		take_sample(c, &now);
		r = rates_between(&before, &now);
		if (terminal)
			fputs("\033[H\033[2J", stdout); /* home, clear */
		print_status(c, &now, &r, client_lines());
		if (!terminal)
			putchar('\n');
		fflush(stdout);
		before = now;
	}
}

void cmd_top(struct talk *c, double delay, unsigned long count)
{
	struct sigaction sa = { .sa_handler = on_signal };
	struct termios saved, raw;
	bool terminal = tcgetattr(STDIN_FILENO, &saved) == 0;

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	if (terminal) {
		raw = saved;
		raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
		tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	}
	top_loop(c, delay, count);
	if (terminal)
		tcsetattr(STDIN_FILENO, TCSANOW, &saved);
}
