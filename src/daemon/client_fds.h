/* SPDX-License-Identifier: MIT */
/* client_fds.h - are the descriptors that a client passed what they should be? */
#ifndef KSMD_CLIENT_FDS_H
#define KSMD_CLIENT_FDS_H

#include <stddef.h>
#include <sys/types.h>

#define MAX_PID_NS 33 /* pid namespaces nest 32 deep (MAX_PID_NS_LEVEL) */

/* The numbers of a process, outermost namespace first; the daemon's is the outermost. */
struct pids {
	long v[MAX_PID_NS];
	int nr;
};
/*
 * Whose pidfd it is, from its fdinfo. -EBADF: it is no pidfd; -ESRCH: the process has ended and was
 * waited for; -errno.
 */
int pidfd_pids(int fd, struct pids *p);
/* A small file as text, cut off after size - 1 bytes. Returns 0 or -errno. */
int read_text(const char *path, char *buf, size_t size);

/* In the order in which HELLO passes them. */
enum client_fd { CLIENT_PIDFD, CLIENT_PAGEMAP, CLIENT_MEM, CLIENT_FDS_NR };

/*
 * Returns 0 when all are of process `pid`, -EBADF when not, -ESRCH when it has ended, or another
 * negative errno when the daemon is short of what it takes to look; the reason goes to why[size].
 * Never calls into a file system other than procfs, so a descriptor of a FUSE file cannot block us.
 */
int client_fds_check(const int fds[CLIENT_FDS_NR], pid_t pid, char *why, size_t size);

#endif
