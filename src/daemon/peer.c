/* SPDX-License-Identifier: MIT */
/*
 * peer.c - see peer.h.
 *
 * The kernel keeps the identity that a process had when it called connect(2): user and primary
 * group (SO_PEERCRED), and supplementary groups (SO_PEERGROUPS). Nothing here asks /etc/group about
 * a peer, because a peer may have left a group, or never have had it in this login.
 *
 * The kernel shows groups that the daemon's user namespace does not map as one, the overflow group.
 * Membership in that means nothing, so no set contains it.
 */
#include "daemon/peer.h"

#include <errno.h>
#include <grp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"

#define OVERFLOW_GID 65534u /* what the kernel shows unless sysctl changed it */
#define FEW_GROUPS 64

bool peer_id_parse(const char *s, uint32_t *id)
{
	uint64_t v;

	if (text_number(s, 10, &v) || v >= UINT32_MAX)
		return false;
	*id = (uint32_t)v;
	return true;
}

int group_set_add(struct group_set *g, const char *name)
{
	const struct group *entry;
	gid_t gid;

	if (!strcmp(name, "all")) {
		g->all = true;
		return 0;
	}
	if (!peer_id_parse(name, &gid)) {
		entry = getgrnam(name);
		if (!entry)
			return -ENOENT;
		gid = entry->gr_gid;
	}
	if (gid == OVERFLOW_GID)
		return -EINVAL;
	if (g->nr == GROUP_SET_MAX)
		return -ENOSPC;
	g->gid[g->nr++] = gid;
	return 0;
}

bool peer_is_owner(uid_t uid)
{
	return uid == 0 || uid == geteuid();
}

static bool has(const struct group_set *g, gid_t gid)
{
	for (unsigned int i = 0; i < g->nr; i++)
		if (g->gid[i] == gid)
			return true;
	return false;
}

static bool has_any(const struct group_set *g, const gid_t *gid, socklen_t bytes)
{
	for (size_t i = 0; i < bytes / sizeof(*gid); i++)
		if (has(g, gid[i]))
			return true;
	return false;
}

/* Hardly anybody is in more groups than fit on the stack; the kernel allows 65,536. */
static bool in_supplementary(int sock, const struct group_set *g)
{
	gid_t few[FEW_GROUPS], *many;
	socklen_t len = sizeof(few);
	bool in;

	if (!getsockopt(sock, SOL_SOCKET, SO_PEERGROUPS, few, &len))
		return has_any(g, few, len);
	if (errno != ERANGE)
		return false;
	many = malloc(len);
	in = many && !getsockopt(sock, SOL_SOCKET, SO_PEERGROUPS, many, &len) &&
	     has_any(g, many, len);
	free(many);
	return in;
}

bool peer_may(int sock, const struct ucred *cred, const struct group_set *g)
{
	return g->all || peer_is_owner(cred->uid) || has(g, cred->gid) ||
	       (g->nr && in_supplementary(sock, g));
}

bool peer_in_group(int sock, const struct ucred *cred, gid_t gid)
{
	const struct group_set g = { .nr = 1, .gid = { gid } };

	return cred->gid == gid || in_supplementary(sock, &g);
}
