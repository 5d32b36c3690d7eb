/* SPDX-License-Identifier: MIT */
/*
 * peer.h - who may do what at the daemon's sockets, by user and group.
 *
 * Root and the daemon's own user may do everything. Others may do it when they are in a group that
 * the operator names.
 */
#ifndef KSMD_PEER_H
#define KSMD_PEER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

/* What the kernel shows of users that the daemon's user namespace does not map, unless sysctl says
 * otherwise; and a number that is no user's. */
#define PEER_OVERFLOW_UID 65534u
#define PEER_NOBODY ((uid_t)-1)
#define GROUP_SET_MAX 16u /* groups that one option may name; a machine needs one or two */

/* All zero: no group at all. Set once, before the daemon serves. */
struct group_set {
	bool all; /* everybody */
	unsigned int nr;
	gid_t gid[GROUP_SET_MAX];
};

/* The number of a user or a group: decimal, and not the one that is nobody's. */
bool peer_id_parse(const char *s, uint32_t *id);

/*
 * Add a group by its name or number, or everybody by the word "all". Returns 0, -ENOENT (there is
 * no such group), -EINVAL (it is the overflow group, to which strangers belong), or -ENOSPC.
 */
int group_set_add(struct group_set *g, const char *name);

/* Is it root, or the daemon's own user? */
bool peer_is_owner(uid_t uid);
/*
 * Does the user and do the groups with which the peer of `sock` connected let it in? False also
 * when memory or the kernel fails.
 */
bool peer_may(int sock, const struct ucred *cred, const struct group_set *g);
/* Was it in this group when it connected? */
bool peer_in_group(int sock, const struct ucred *cred, gid_t gid);

#endif
