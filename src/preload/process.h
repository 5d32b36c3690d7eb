/* SPDX-License-Identifier: MIT */
/* process.h - the calls of process.c in the kernel's convention, for syscall(2) and the start. */
#ifndef KSM_PRELOAD_PROCESS_H
#define KSM_PRELOAD_PROCESS_H

#include <stdbool.h>

/* What a clone does to the address space: nothing, a copy, or a copy and a wait for the child. */
enum copy_kind { COPY_NONE, COPY, COPY_AND_WAIT };
/* Makes the system call nr, one of those that copy a process. Returns as it does, in both. */
long proc_clone(long nr, long a, long b, long c, long d, long e, enum copy_kind kind);
/* What PR_SET_MEMORY_MERGE does, on the user's wish: the agent need not hurry. 0 or -ENOMEM. */
long proc_merge_any(bool enable);
long proc_prctl(int op, unsigned long a, unsigned long b, unsigned long c, unsigned long d);
/* Looks the C library's functions up before somebody needs them where that is not allowed. */
void process_resolve(void);

#endif
