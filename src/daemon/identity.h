/* SPDX-License-Identifier: MIT */
/*
 * identity.h - who a client is beyond its user: namespaces and cgroup.
 *
 * A user number alone says little. The root of three containers is user 0 as the host's root is,
 * and everybody whom a user namespace does not map looks like the overflow user. So domains go by
 * what is collected here.
 *
 * All of it is about the process that called connect(2), which the kernel names by a pidfd
 * (SO_PEERPIDFD). A process number is looked up in /proc only while that process lives, so a number
 * that is used again misleads nobody.
 */
#ifndef KSMD_IDENTITY_H
#define KSMD_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "daemon/witness.h"

/* What the kernel shows for whom a user namespace does not map: nobody in particular. */
#define OVERFLOW_UID 65534u
#define IDENTITY_CGROUP_SIZE 512u /* bytes; those of container managers have 200 */

enum ns_known {
	NS_UNSEEN, /* the daemon cannot see them, and they are not as its own */
	NS_OWN,    /* the daemon's own user and pid namespace */
	NS_OTHER,  /* others: ns[] and ns_id[] */
};

struct identity {
	struct ucred cred;
	int pidfd; /* -1: not looked at */
	enum ns_known known;
	int ns[NS_NR]; /* NS_OTHER: descriptors that keep the namespaces; else -1 */
	uint64_t ns_id[NS_NR];
};

/* Of whom nothing but this is known. */
static inline struct identity identity_unknown(const struct ucred *cred)
{
	return (struct identity){ .cred = *cred, .pidfd = -1, .ns = { -1, -1 } };
}

/*
 * Collect it for the peer of a connected socket. Returns 0, and then the process lived after the
 * call began; -ESRCH when it has ended; or -errno. identity_drop() follows in any case.
 */
int identity_look(struct identity *id, int sock, const struct ucred *cred, struct witness *w);
void identity_drop(struct identity *id);

/*
 * The path of its cgroup (version 2) as the daemon sees it. Returns 0, -ESRCH (it has ended),
 * -ENAMETOOLONG, -ENOENT (the kernel has no such cgroups), or -errno.
 */
int identity_cgroup(const struct identity *id, char path[IDENTITY_CGROUP_SIZE]);

/* Is its user number that of somebody? */
static inline bool identity_is_somebody(const struct identity *id)
{
	return id->cred.uid != OVERFLOW_UID;
}

#endif
