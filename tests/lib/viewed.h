/* SPDX-License-Identifier: MIT */
/*
 * viewed.h - a test's reads and stores through ksmd-fs, in the kernel's place.
 *
 * With KSM_TEST_VIEW set each daemon of a test has the view beside it, mounted in a mount namespace
 * of the test's own and bound over /sys/kernel/mm/ksm. ctl_get() and ctl_set() then take the way
 * of a tool that knows the kernel's files, and everything that a test asserts holds for these.
 */
#ifndef KSM_TEST_VIEWED_H
#define KSM_TEST_VIEWED_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct viewed {
	pid_t pid; /* 0: there is no view */
	char mnt[280];
};

/*
 * The daemon in `dir` answers: have `program`, ksmd-fs, show it, if KSM_TEST_VIEW is set. A view
 * that is there stays, and finds the next daemon itself. Returns 0, or -errno: it was not mounted
 * within timeout_ms, for instance. Where none can be had, says SKIP and why and ends the test.
 */
int viewed_start(struct viewed *v, const char *dir, const char *program, int timeout_ms);
void viewed_stop(struct viewed *v);
/* Does this attribute go through the view? */
bool viewed_has(const struct viewed *v, const char *path);
/* As ctl_get() and ctl_set(). */
int viewed_get(const struct viewed *v, const char *path, char *buf, size_t size);
int viewed_set(const struct viewed *v, const char *path, const char *value);

#endif
