/* SPDX-License-Identifier: MIT */
/* message.h - what ksm-bench says on standard error. */
#ifndef KSM_BENCH_MESSAGE_H
#define KSM_BENCH_MESSAGE_H

/* One line; the name of the program and the newline are added. */
void complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
