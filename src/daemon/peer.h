/* SPDX-License-Identifier: MIT */
/* peer.h - are the descriptors that a client passed what they should be? */
#ifndef KSMD_PEER_H
#define KSMD_PEER_H

#include <stddef.h>
#include <sys/types.h>

/* In the order in which HELLO passes them. */
enum peer_fd { PEER_PIDFD, PEER_PAGEMAP, PEER_MEM, PEER_NR_FDS };

/*
 * Returns 0 when all are of process `pid`, -EBADF when not, -ESRCH when it has ended, or another negative errno when we are short of
 * what it takes to look; with the reason in why. Never calls into a file system other than procfs, so a passed descriptor of a FUSE file cannot block us.
 */
int peer_check(const int fds[PEER_NR_FDS], pid_t pid, char *why, size_t size);

#endif
