/* SPDX-License-Identifier: MIT */
/*
 * witness.h - a process of the daemon's that says in which namespaces a client lives.
 *
 * The kernel shows the namespaces of a process only to those who may trace it, which beside.h says
 * the daemon may not. The witness keeps CAP_SYS_PTRACE, if the daemon was started with it. It can
 * do one thing: take a pidfd and answer with descriptors of the user and the pid namespace. A
 * descriptor keeps its namespace alive, so that the number by which we know it is not used again
 * meanwhile.
 *
 * Before Linux 6.11 the kernel does not answer that question, and without the capability not about
 * every process. Callers must do without an answer.
 */
#ifndef KSMD_WITNESS_H
#define KSMD_WITNESS_H

#include <stdint.h>

#include "daemon/beside.h"

enum { NS_USER, NS_PID, NS_NR };

/* The client thread alone asks. */
struct witness {
	struct beside beside;
	uint64_t own[NS_NR]; /* the daemon's namespaces, by inode; 0: it cannot see them */
};

/*
 * Starts the witness. Call it before the process has threads, and before what a child should not
 * have. Returns 0 or -errno; the witness can be asked in either case, and then knows nothing.
 */
int witness_start(struct witness *w);
/* The witness ends. */
void witness_stop(struct witness *w);
/*
 * The namespaces of a living process: ns[] are descriptors, owned by the caller, id[] their inodes.
 * Returns 0, or -errno, and then there is nothing to close: -EACCES (not for our eyes), -ENOTTY
 * (an old kernel), -EMFILE (of ours), or an error of beside_ask()'s.
 */
int witness_ask(struct witness *w, int pidfd, int ns[NS_NR], uint64_t id[NS_NR]);

#endif
