/* SPDX-License-Identifier: MIT */
/*
 * log.h - messages for the operator, on stderr, one line each.
 *
 * What a client can cause at will goes through log_limited(): at most once a minute per kind, with
 * the number left out in between, so that no peer can fill a disk.
 */
#ifndef KSM_LOG_H
#define KSM_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { KSMD_ERROR, KSMD_WARNING, KSMD_INFO, KSMD_DEBUG };

/* Name ("error", "warning", "info", "debug") to level; false when unknown. Call before threads. */
bool log_set_level(const char *name);
void log_msg(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* One per kind of message; zero-initialised; used by one thread. */
struct log_limit {
	uint64_t next_ms;
	uint64_t suppressed;
};
void log_limited(struct log_limit *l, enum log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif
