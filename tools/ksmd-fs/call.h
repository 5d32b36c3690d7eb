/* SPDX-License-Identifier: MIT */
/*
 * call.h - a connection to the daemon on behalf of the process that uses the view.
 *
 * The daemon decides by the user of its peer what may be seen and set. So the view connects as
 * that user: the calling thread takes the caller's ids for the length of a connect(2), whose
 * credentials the kernel keeps with the connection. The real id of the thread stays, so that the
 * caller can neither signal nor trace it. Where the view has no right to change ids it serves its
 * own user alone, and the kernel sees to that (no allow_other).
 *
 * Each command has a connection of its own. A daemon that is gone gives EIO, one that has come
 * back answers the next command, and no state of one can leak into the other.
 */
#ifndef KSMD_FS_CALL_H
#define KSMD_FS_CALL_H

#include <sys/types.h>

#include "tools/control/talk.h"

#define CALL_GROUPS_MAX 64 /* more supplementary groups than that are left out */

/* The process that asks. */
struct caller {
	uid_t uid;
	gid_t gid;
	gid_t groups[CALL_GROUPS_MAX];
	int nr_groups;
};

/*
 * Connect to the daemon whose control socket is at `path`, as `who`. Returns 0 and the caller of
 * this function calls talk_close(), or a negative errno: -EIO when there is no daemon, or one that
 * is not to be trusted (wire/trust.h); -EACCES when `who` may not connect.
 */
int call_open(struct talk *t, const char *path, const struct caller *who);

#endif
