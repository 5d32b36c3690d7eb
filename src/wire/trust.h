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
 * says so (SO_PEERCRED), whatever path led there. The path is looked at as well, because whoever
 * can change a part of it decides which daemon answers. Every directory on the way and every
 * symbolic link belongs to trusted users, and nobody else can write such a directory, or can do no
 * more there than add files of their own (/tmp). So a part that was looked at cannot be exchanged
 * by anybody who is not trusted, and looking at one after the other is safe. Both sides of a race
 * between the looks at the path and at the peer end at a trusted peer.
 *
 * Inline, without allocation, and with system calls of our own: the library calls this in programs
 * that it must not disturb, and whose C library's functions may be others than it thinks.
 */
#ifndef KSM_TRUST_H
#define KSM_TRUST_H

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sysc.h"
#include "wire/runtime_dir.h"

/* Whoever a user namespace does not map looks like this user, so it is nobody in particular. */
#define TRUST_OVERFLOW_UID 65534u
#define TRUST_OTHERS_WRITE (S_IWGRP | S_IWOTH)
/* A socket's path has 107 bytes at most, and links on the way seldom lead far. Longer: no trust. */
#define TRUST_PATH 1024
#define TRUST_LINKS 8

/* Returns 0 or -errno. A symbolic link is not followed. */
static inline long trust_lstat(const char *path, struct stat *st)
{
	return sysc4(SYS_newfstatat, AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW);
}

/* The process's own user; false while it could become another again (a set-user-ID program). */
static inline bool trust_own_uid(uid_t uid)
{
	uid_t r, e, s;

	return sysc3(SYS_getresuid, &r, &e, &s) == 0 && r == uid && e == uid && s == uid &&
	       uid != TRUST_OVERFLOW_UID;
}

/* Has the system given the default directory to this user? */
static inline bool trust_service_uid(uid_t uid)
{
	struct stat parent, dir;

	return trust_lstat("/run", &parent) == 0 && S_ISDIR(parent.st_mode) && parent.st_uid == 0 &&
	       !(parent.st_mode & TRUST_OTHERS_WRITE) && trust_lstat(KSM_ROOT_DIR, &dir) == 0 &&
	       S_ISDIR(dir.st_mode) && !(dir.st_mode & TRUST_OTHERS_WRITE) && dir.st_uid == uid &&
	       uid != TRUST_OVERFLOW_UID;
}

static inline bool trust_uid(uid_t uid)
{
	return uid == 0 || trust_own_uid(uid) || trust_service_uid(uid);
}

/* May the way lead through it? In a directory with the sticky bit others can add, not exchange. */
static inline bool trust_way(const struct stat *st)
{
	return S_ISDIR(st->st_mode) && trust_uid(st->st_uid) &&
	       (!(st->st_mode & TRUST_OTHERS_WRITE) || st->st_mode & S_ISVTX);
}

/* Where the look at a path has come: what was looked at has no link, no "." and no ".." in it. */
struct trust_walk {
	char done[TRUST_PATH]; /* "" is the root */
	char rest[TRUST_PATH]; /* still to go, from `done`: nothing, or it ends with a slash */
	size_t done_len;
	int links;
};

static inline void trust_drop(struct trust_walk *w, size_t len)
{
	memmove(w->rest, w->rest + len, strlen(w->rest + len) + 1);
}

/* Put len bytes and a slash in front of what is still to go. */
static inline bool trust_prepend(struct trust_walk *w, const char *s, size_t len)
{
	size_t left = strlen(w->rest);

	if (len + 1 + left >= sizeof(w->rest))
		return false;
	memmove(w->rest + len + 1, w->rest, left + 1);
	memcpy(w->rest, s, len);
	w->rest[len] = '/';
	return true;
}

static inline void trust_up(struct trust_walk *w)
{
	while (w->done_len && w->done[--w->done_len] != '/')
		;
	w->done[w->done_len] = '\0';
}

/* `done` is a symbolic link: go where it leads. */
static inline bool trust_follow(struct trust_walk *w)
{
	char target[TRUST_PATH];
	long n = sysc4(SYS_readlinkat, AT_FDCWD, w->done, target, sizeof(target));

	if (n <= 0 || n >= (long)sizeof(target) || w->links++ == TRUST_LINKS)
		return false;
	trust_up(w);
	if (target[0] == '/')
		w->done[w->done_len = 0] = '\0';
	return trust_prepend(w, target, (size_t)n);
}

/* One name further: the len bytes at `rest`. */
static inline bool trust_step(struct trust_walk *w, size_t len)
{
	struct stat st;

	if (w->done_len + 1 + len >= sizeof(w->done))
		return false;
	w->done[w->done_len] = '/';
	memcpy(w->done + w->done_len + 1, w->rest, len);
	w->done_len += 1 + len;
	w->done[w->done_len] = '\0';
	trust_drop(w, len);
	if (trust_lstat(w->done, &st) || !trust_uid(st.st_uid))
		return false;
	if (S_ISLNK(st.st_mode))
		return trust_follow(w);
	return trust_way(&st);
}

/* The way to the directory of `path`, from the root. */
static inline bool trust_begin(struct trust_walk *w, const char *path)
{
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0;
	char cwd[TRUST_PATH];
	struct stat st;

	w->done[0] = w->rest[0] = '\0';
	w->done_len = 0;
	w->links = 0;
	if (!trust_prepend(w, path, len))
		return false;
	if (path[0] != '/') {
		long n = sysc2(SYS_getcwd, cwd, sizeof(cwd)); /* its length with the NUL */

		if (n <= 1 || cwd[0] != '/' || !trust_prepend(w, cwd, (size_t)n - 1))
			return false;
	}
	return trust_lstat("/", &st) == 0 && trust_way(&st);
}

/*
 * The directory of the socket at `path`, and the way there: nobody who is not trusted can change
 * which directory it is, or write it.
 */
static inline bool trust_dir(const char *path)
{
	struct trust_walk w;
	struct stat st;

	if (!trust_begin(&w, path))
		return false;
	for (;;) {
		size_t len;

		trust_drop(&w, strspn(w.rest, "/"));
		len = strcspn(w.rest, "/");
		if (!len)
			break;
		if (!memcmp(w.rest, "./", 2)) {
			trust_drop(&w, 1);
		} else if (!memcmp(w.rest, "../", 3)) {
			trust_drop(&w, 2);
			trust_up(&w);
		} else if (!trust_step(&w, len)) {
			return false;
		}
	}
	return trust_lstat(w.done_len ? w.done : "/", &st) == 0 && trust_way(&st) &&
	       !(st.st_mode & TRUST_OTHERS_WRITE);
}

/* The other end of a connected socket. */
static inline bool trust_peer(int sock)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return sysc5(SYS_getsockopt, sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
	       trust_uid(peer.uid);
}

#endif
