/* SPDX-License-Identifier: MIT */
/* unseen.h - code that changes mappings by system calls of its own, which no interposer sees. */
#ifndef KSM_PRELOAD_UNSEEN_H
#define KSM_PRELOAD_UNSEEN_H

#include <stdbool.h>

/*
 * Does the code at `caller` belong to an object that changes mappings unseen? What such an object
 * maps must not be merged: advice that throws contents away would show frames in place of zeros.
 * An object is read when it is asked about for the first time. Context: any but a signal handler.
 */
bool unseen_calls_in(const void *caller);

#endif
