/* SPDX-License-Identifier: MIT */
/*
 * trust.h - whether a process may obey the daemon that it has found.
 *
 * A daemon reads the memory of its clients and says what they map in its place. So a daemon of
 * another user, reached through the environment, a directory that others can write or a symbolic
 * link, would own its clients. A client trusts root, its own user, and the user whom the system has
 * given the default directory: root owns the parent of that, and only its owner can write it.
 *
 * The peer is whoever called listen(2), under socket activation the service manager; the kernel
 * says so (SO_PEERCRED), whatever path led there. The directory is looked at as well, because
 * whoever can write it decides which daemon answers. Both sides of a race between the two looks end
 * at a trusted peer.
 *
 * Inline, and without allocation, because the library calls it in programs that it must not
 * disturb.
 */
#ifndef KSM_TRUST_H
#define KSM_TRUST_H

#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "wire/runtime_dir.h"

/* Whoever a user namespace does not map looks like this user, so it is nobody in particular. */
#define TRUST_OVERFLOW_UID 65534u
#define TRUST_OTHERS_WRITE (S_IWGRP | S_IWOTH)

/* The process's own user; false while it could become another again (a set-user-ID program). */
static inline bool trust_own_uid(uid_t uid)
{
	uid_t r, e, s;

	return !getresuid(&r, &e, &s) && r == uid && e == uid && s == uid &&
	       uid != TRUST_OVERFLOW_UID;
}

/* Has the system given the default directory to this user? */
static inline bool trust_service_uid(uid_t uid)
{
	struct stat parent, dir;

	return !lstat("/run", &parent) && S_ISDIR(parent.st_mode) && parent.st_uid == 0 &&
	       !(parent.st_mode & TRUST_OTHERS_WRITE) && !lstat("/run/" KSM_DIR_NAME, &dir) &&
	       S_ISDIR(dir.st_mode) && !(dir.st_mode & TRUST_OTHERS_WRITE) && dir.st_uid == uid &&
	       uid != TRUST_OVERFLOW_UID;
}

static inline bool trust_uid(uid_t uid)
{
	return uid == 0 || trust_own_uid(uid) || trust_service_uid(uid);
}

/*
 * The directory of the socket at `path`: it, and a symbolic link that is its name, belong to
 * trusted users, and nobody else can write it.
 */
static inline bool trust_dir(const char *path)
{
	char dir[sizeof(((struct sockaddr_un *)0)->sun_path)];
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0;
	struct stat st;

	while (len > 1 && path[len - 1] == '/') /* behind a slash lstat(2) follows the link */
		len--;
	if (!len || len >= sizeof(dir))
		return false;
	memcpy(dir, path, len);
	dir[len] = '\0';
	if (lstat(dir, &st) || !trust_uid(st.st_uid))
		return false;
	if (S_ISLNK(st.st_mode) && (stat(dir, &st) || !trust_uid(st.st_uid)))
		return false;
	return S_ISDIR(st.st_mode) && !(st.st_mode & TRUST_OTHERS_WRITE);
}

/* The other end of a connected socket. */
static inline bool trust_peer(int sock)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return !getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) && trust_uid(peer.uid);
}

#endif
