/* SPDX-License-Identifier: MIT */
/* client_fds.h - are the descriptors that a client passed what they should be? */
#ifndef KSMD_CLIENT_FDS_H
#define KSMD_CLIENT_FDS_H

#include <stddef.h>
#include <sys/types.h>

/* In the order in which HELLO passes them. */
enum client_fd { CLIENT_PIDFD, CLIENT_PAGEMAP, CLIENT_MEM, CLIENT_FDS_NR };

/*
 * Returns 0 when all are of process `pid`, -EBADF when not, -ESRCH when it has ended, or another
 * negative errno when the daemon is short of what it takes to look; the reason goes to why[size].
 * Never calls into a file system other than procfs, so a descriptor of a FUSE file cannot block us.
 */
int client_fds_check(const int fds[CLIENT_FDS_NR], pid_t pid, char *why, size_t size);

#endif
