/* SPDX-License-Identifier: MIT */
/*
 * trace.h - stand at each system call of another process, with ptrace.
 *
 * The program and the kernel run unchanged. The test halts one thread, or all threads of a program,
 * at a system call. There it stops or kills any process, or makes the call fail. Only the thread
 * `tid` is halted; the others run on to their next call.
 */
#ifndef KSM_TEST_TRACE_H
#define KSM_TEST_TRACE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum trace_event {
	TRACE_STOP,  /* at a call, see `entry` */
	TRACE_QUIET, /* nothing within the time given; the thread runs */
	TRACE_GONE,  /* it has ended; see `status` */
};

struct trace {
	pid_t pid;    /* the program, when all of its threads are traced; else 0 */
	pid_t tid;    /* who has stopped */
	bool running; /* nobody is halted now */
	bool entry;   /* before the call; else after it */
	long nr;      /* of the call; args and nr are known at the entry only */
	uint64_t a[6];
	long ret; /* after it */
	int status;
};

/* Whether this user may trace at all; says SKIP and why when not. */
bool trace_possible(void);
/* The thread named `name` of a process, 0 when there is none. */
pid_t trace_find_thread(pid_t pid, const char *name);
/* Halt one thread. */
void trace_begin(struct trace *t, pid_t tid);
/*
 * Run a program from its exec on, all threads traced. What it writes to stderr goes to err (an fd).
 */
void trace_exec(struct trace *t, const char *const argv[], int err);
/* Go on, to the next entry or return of a call. */
enum trace_event trace_next(struct trace *t, int timeout_ms);
/*
 * At the entry of a call: the kernel does not make it, and it returns -err. The exception is
 * mremap(MREMAP_FIXED): it unmaps its target before it fails with ENOMEM, as the kernel's does.
 */
void trace_fail(struct trace *t, int err);
/* Whether this is such a call: it unmaps something, and nothing fills the place by itself. */
bool trace_fail_takes(const struct trace *t, int err);
/* Let the one thread go; it may be running, or gone. */
void trace_end(struct trace *t);
/* Can the call at whose entry we are give this error, short of a bug in the kernel? */
bool trace_may_fail(const struct trace *t, int err);

#endif
