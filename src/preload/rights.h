/* SPDX-License-Identifier: MIT */
/* rights.h - the calls of rights.c in the kernel's convention, for syscall(2) and prctl(2). */
#ifndef KSM_PRELOAD_RIGHTS_H
#define KSM_PRELOAD_RIGHTS_H

#include <stdbool.h>

/* Make the call with no agent beside it. Returns its result or -errno. */
long rights_call(long nr, long a, long b, long c, long d, long e);
long rights_unshare(int flags);
/* A filter of system calls may hold from now on, for the calling thread or for all. Has it? */
void rights_note_filter(void);
bool rights_filtered(void);
/* Does this operation of prctl(2) change what the calling thread may do? */
bool rights_prctl(int op);

#endif
