/* SPDX-License-Identifier: MIT */
/*
 * calls.h - the calls that change memory, in the two ways in which a program can make them.
 *
 * A program makes them through libksm (calls_ksm.c), or unmodified under ksm-run (calls_plain.c).
 * Everything else in an actor is the same code. Results and errno are those of the system calls of
 * the same names.
 */
#ifndef KSM_TORTURE_CALLS_H
#define KSM_TORTURE_CALLS_H

#include <stdbool.h>
#include <stddef.h>

extern const bool calls_are_plain;

/* Private, anonymous, readable and writable. flags: MAP_FIXED and the like. */
void *call_mmap(void *addr, size_t len, int flags);
int call_munmap(void *addr, size_t len);
void *call_mremap(void *old, size_t old_len, size_t new_len, int flags, void *to);
int call_mprotect(void *addr, size_t len, int prot);
int call_madvise(void *addr, size_t len, int advice);
int call_merge_any(bool enable);
/* Ask for figures, where there is a call that does. Returns 0, or -1 and errno. */
int call_stat(void);

#endif
