/* SPDX-License-Identifier: MIT */
/* filter.h - does a filter of system calls let ours pass? */
#ifndef KSM_FILTER_H
#define KSM_FILTER_H

#include <stdbool.h>

struct sock_fprog;

/*
 * Would a process with this filter of seccomp(2) live on if the interposers and the agent made
 * their calls? `prog` need not be valid, and may not be there at all. Context: any; the caller has
 * no filter yet that forbids rt_sigprocmask(2).
 */
bool filter_passes(const struct sock_fprog *prog);
/* The same if they name memory, which they do only where the program does. */
bool filter_lets_name(const struct sock_fprog *prog);

#endif
