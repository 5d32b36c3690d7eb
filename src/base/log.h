/* SPDX-License-Identifier: MIT */
/*
 * log.h - messages for the operator, on stderr, one line each.
 *
 * A line is "PREFIX: LEVEL: MESSAGE". What a peer can cause at will goes through log_limited(),
 * which writes each kind at most once a minute and says how many it left out. So no peer can fill
 * a disk.
 */
#ifndef KSM_LOG_H
#define KSM_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

/* What each line begins with; it must stay where it is. Call before other threads start. */
void log_set_prefix(const char *prefix);
/*
 * Write this level ("error", "warning", "info" or "debug") and graver ones. False, and no change,
 * for another name. Call before other threads start. LOG_INFO unless set.
 */
bool log_set_level(const char *name);
/* Any thread. A line is cut off after 511 bytes. */
void log_msg(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* One for each kind of message. Zeros to begin with; one thread at a time. */
struct log_limit {
	uint64_t next_ms; /* not before, of clock_ms() */
	uint64_t suppressed;
};
void log_limited(struct log_limit *l, enum log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif
