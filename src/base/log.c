/* SPDX-License-Identifier: MIT */
/*
 * log.c - see log.h. A line is put together first and written with one write(2), so that lines of
 * several threads do not mix.
 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define LIMIT_MS 60000 /* the same kind of message once a minute */
#define LINE_MAX_BYTES 512

static const char *const level_name[] = { "error", "warning", "info", "debug" };
static enum log_level threshold = KSMD_INFO; /* set once, before the first thread starts */

bool log_set_level(const char *name)
{
	for (unsigned int i = 0; i < sizeof(level_name) / sizeof(level_name[0]); i++) {
		if (!strcmp(name, level_name[i])) {
			threshold = (enum log_level)i;
			return true;
		}
	}
	return false;
}

static void write_line(enum log_level level, uint64_t suppressed, const char *fmt, va_list ap)
{
	char line[LINE_MAX_BYTES];
	size_t len;

	len = (size_t)snprintf(line, sizeof(line), "ksmd-user: %s: ", level_name[level]);
	vsnprintf(line + len, sizeof(line) - len, fmt, ap);
	len = strlen(line);
	if (suppressed && len < sizeof(line) - 1)
		snprintf(line + len, sizeof(line) - len, " (and %llu more like it)",
			 (unsigned long long)suppressed);
	len = strlen(line);
	if (len > sizeof(line) - 2)
		len = sizeof(line) - 2;
	line[len++] = '\n';
	/* Nowhere to report that stderr cannot be written. */
	if (write(STDERR_FILENO, line, len) < 0)
		return;
}

void log_msg(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	if (level > threshold)
		return;
	va_start(ap, fmt);
	write_line(level, 0, fmt, ap);
	va_end(ap);
}

void log_limited(struct log_limit *l, enum log_level level, const char *fmt, ...)
{
	uint64_t now = clock_ms();
	va_list ap;

	if (level > threshold)
		return;
	if (now < l->next_ms) {
		l->suppressed++;
		return;
	}
	va_start(ap, fmt);
	write_line(level, l->suppressed, fmt, ap);
	va_end(ap);
	l->next_ms = now + LIMIT_MS;
	l->suppressed = 0;
}
