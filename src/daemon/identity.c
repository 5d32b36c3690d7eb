/* SPDX-License-Identifier: MIT */
/*
 * identity.c - see identity.h.
 *
 * Where the witness has no answer, a process still counts as one of the daemon's own namespaces if
 * it has a number in one pid namespace only, and its user namespace maps as the daemon's does. Only
 * a privileged process can make another user namespace that maps all users one to one.
 */
#include "daemon/identity.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/client_fds.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* since Linux 6.5 */
#endif

/* Lines of a map; 340 are allowed, and a map that is longer than this is not the machine's. */
#define MAP_TEXT 512

static bool maps_as_we_do(pid_t pid)
{
	char path[64], theirs[MAP_TEXT], ours[MAP_TEXT];

	snprintf(path, sizeof(path), "/proc/%d/uid_map", (int)pid);
	return !read_text(path, theirs, sizeof(theirs)) &&
	       !read_text("/proc/self/uid_map", ours, sizeof(ours)) &&
	       strlen(ours) < sizeof(ours) - 1 && !strcmp(theirs, ours);
}

/* 0 while the peer lives, and then its numbers. */
static int living(const struct identity *id, struct pids *p)
{
	int err = pidfd_pids(id->pidfd, p);

	if (!err && p->v[0] != id->cred.pid)
		err = -ESRCH;
	return err == -EBADF ? -ESRCH : err;
}

/* What the witness says of a process was true while it lived, so it lives. */
static void take_answer(struct identity *id, const struct witness *w)
{
	id->known = NS_OTHER;
	if (id->ns_id[NS_USER] != w->own[NS_USER] || id->ns_id[NS_PID] != w->own[NS_PID])
		return;
	for (int i = 0; i < NS_NR; i++) {
		close(id->ns[i]);
		id->ns[i] = -1;
	}
	id->known = NS_OWN;
}

/* Without the witness. The map is read by number, so the process must live before and after. */
static int compare(struct identity *id)
{
	struct pids p;
	int err = living(id, &p);

	id->ns[NS_USER] = id->ns[NS_PID] = -1;
	if (!err && p.nr == 1 && maps_as_we_do(id->cred.pid))
		id->known = NS_OWN;
	return err ? err : living(id, &p);
}

int identity_look(struct identity *id, int sock, const struct ucred *cred, struct witness *w)
{
	socklen_t len = sizeof(id->pidfd);

	*id = identity_unknown(cred);
	if (getsockopt(sock, SOL_SOCKET, SO_PEERPIDFD, &id->pidfd, &len)) {
		id->pidfd = -1;
		/* These are what kernels say of a process that has been waited for. */
		return errno == EINVAL || errno == ENODATA ? -ESRCH : -errno;
	}
	if (witness_ask(w, id->pidfd, id->ns, id->ns_id))
		return compare(id);
	take_answer(id, w);
	return 0;
}

void identity_drop(struct identity *id)
{
	for (int i = 0; i < NS_NR; i++)
		if (id->ns[i] >= 0)
			close(id->ns[i]);
	if (id->pidfd >= 0)
		close(id->pidfd);
	id->pidfd = id->ns[NS_USER] = id->ns[NS_PID] = -1;
}

int identity_cgroup(const struct identity *id, char path[IDENTITY_CGROUP_SIZE])
{
	char file[64], text[4096];
	const char *line = text, *end;
	struct pids p;
	int err;

	snprintf(file, sizeof(file), "/proc/%d/cgroup", (int)id->cred.pid);
	err = read_text(file, text, sizeof(text));
	if (err)
		return err;
	err = living(id, &p);
	if (err)
		return err;
	/* Version 2 has number 0 and comes last; the names of version 1 may hold a "0::" of their
	 * own, but not at the beginning of a line, because no name has a newline. */
	while (line && strncmp(line, "0::", 3)) {
		line = strchr(line, '\n');
		line = line ? line + 1 : NULL;
	}
	if (!line)
		return strlen(text) == sizeof(text) - 1 ? -ENAMETOOLONG : -ENOENT;
	line += 3;
	end = strchr(line, '\n');
	if (!end || end - line >= (long)IDENTITY_CGROUP_SIZE)
		return -ENAMETOOLONG;
	memcpy(path, line, (size_t)(end - line));
	path[end - line] = '\0';
	return 0;
}
