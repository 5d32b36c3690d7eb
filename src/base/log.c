/* SPDX-License-Identifier: MIT */
/*
 * log.c - lines of several threads must not mix, so each is put together first and then written
 * with one write(2) (see log.h).
 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define LIMIT_MS 60000 /* between two messages of a kind */
#define LINE_MAX_BYTES 512

static const char *const level_name[] = { "error", "warning", "info", "debug" };
/* Set before other threads start. */
static enum log_level threshold = LOG_INFO;
static const char *line_prefix = "log";

void log_set_prefix(const char *prefix)
{
	line_prefix = prefix;
}

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

	snprintf(line, sizeof(line), "%.64s: %s: ", line_prefix, level_name[level]);
	len = strlen(line);
	vsnprintf(line + len, sizeof(line) - len, fmt, ap);
	len = strlen(line);
	if (suppressed && len < sizeof(line) - 1)
		snprintf(line + len, sizeof(line) - len, " (and %llu more like it)",
			 (unsigned long long)suppressed);
	len = strlen(line);
	if (len > sizeof(line) - 2)
		len = sizeof(line) - 2;
	line[len++] = '\n';
	/* There is nowhere to report that stderr cannot be written. */
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
