/* SPDX-License-Identifier: MIT */
/* rights.h - the calls of rights.c in the kernel's convention, for syscall(2) and prctl(2). */
#ifndef KSM_PRELOAD_RIGHTS_H
#define KSM_PRELOAD_RIGHTS_H

#include <stdbool.h>

/* Make the call with no agent beside it. Returns its result or -errno. */
long rights_call(long nr, long a, long b, long c, long d, long e);
long rights_unshare(int flags);
/*
 * Make this call of seccomp(2) or prctl(2), which installs the filter `prog` for the calling thread
 * or for all; NULL: the strict mode. One that would kill for our calls finds us gone.
 */
long rights_filter(long nr, long a, long b, long c, long d, long e, const void *prog);
/* May a filter of system calls hold? Is it one that we have gone for? */
bool rights_filtered(void);
bool rights_given_up(void);
/* Does this operation of prctl(2) change what the calling thread may do? */
bool rights_prctl(int op);

#endif
