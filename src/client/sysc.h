/* SPDX-License-Identifier: MIT */
/* sysc.h - the client makes its system calls without the C library: see base/sysc.h. */
#ifndef KSM_CLIENT_SYSC_H
#define KSM_CLIENT_SYSC_H

#include <errno.h>

#include "base/sysc.h"

/*
 * May a call that failed with r succeed when it is made again? A loop that repeats a call until it
 * succeeds ends when the answer is no: the program changed the memory behind our back, or sealed
 * it, and no other answer will come.
 */
static inline int sysc_may_pass(long r)
{
	return r == -EAGAIN || r == -ENOMEM || r == -EINTR || r == -EBUSY;
}

#endif
