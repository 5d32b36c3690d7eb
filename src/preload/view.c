/* SPDX-License-Identifier: MIT */
/*
 * view.c - a program's own /proc/self/ksm_stat and ksm_merging_pages, from the view (ksmd-fs).
 *
 * The kernel has these files for each process and knows nothing of what is merged here. Nothing can
 * be mounted over them for a process that is still to be born, so where ksm-run was given a view
 * the calls that open files look at the name, and these two names of the caller's own lead there.
 * Where the view does not have them the kernel's are opened, as without us; every other name, and a
 * pointer to nothing, goes to the C library untouched.
 *
 * A call may come before the constructor has looked the C library's functions up, and from an
 * allocator that must not be entered again. It goes to the kernel directly then.
 */
#include "preload/view.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "client/user.h"
#include "preload/preload.h"

/* "/proc/", a pid or "thread-self", '/', the longer name. */
#define NAME_MAX_LEN 48
#define ROOM (sizeof(preload.view) + sizeof("/proc/self/") + NAME_MAX_LEN)

typedef int (*open_fn)(const char *, int, ...);
typedef int (*openat_fn)(int, const char *, int, ...);
typedef FILE *(*fopen_fn)(const char *, const char *);

static void *next_open, *next_openat, *next_fopen;

void view_resolve(void)
{
	preload_next(&next_open, "open64");
	preload_next(&next_openat, "openat64");
	preload_next(&next_fopen, "fopen64");
}

/* ---- the names ---- */

/* A copy that is short enough to be one of the names. False: it is not, or cannot be read. */
static bool copy_name(const char *path, char name[static NAME_MAX_LEN])
{
	uintptr_t last = 0;

	for (size_t i = 0; i < NAME_MAX_LEN; i++) {
		if (!user_page(&last, path + i))
			return false;
		name[i] = path[i];
		if (!name[i])
			return true;
	}
	return false;
}

/* What follows /proc/self/ or the same by number, or NULL. */
static const char *own_name(const char *name)
{
	long pid = 0, self;
	const char *p;

	if (strncmp(name, "/proc/", 6) != 0)
		return NULL;
	p = name + 6;
	if (!strncmp(p, "self/", 5))
		return p + 5;
	self = sysc0(SYS_getpid);
	while (*p >= '0' && *p <= '9' && pid <= self)
		pid = pid * 10 + *p++ - '0';
	return *p == '/' && pid == self ? p + 1 : NULL;
}

/* The view's file for a name of the kernel's, in `room`; NULL: there is none. */
static const char *in_the_view(const char *path, char room[static ROOM])
{
	char name[NAME_MAX_LEN];
	const char *file;

	if (!preload_active() || !*preload.view || !copy_name(path, name))
		return NULL;
	file = own_name(name);
	if (!file || (strcmp(file, "ksm_stat") != 0 && strcmp(file, "ksm_merging_pages") != 0))
		return NULL;
	snprintf(room, ROOM, "%s/proc/self/%s", preload.view, file);
	return room;
}

/* ---- the calls ---- */

static int open_in_view(const char *path, int flags)
{
	char room[ROOM];
	const char *there = in_the_view(path, room);

	return there ? (int)sysc4(SYS_openat, AT_FDCWD, (long)there, flags, 0) : -ENOENT;
}

/* The mode, which is there only when a file may be made. */
#define MODE(flags)                                                                                \
	({                                                                                         \
		unsigned int mode_ = 0;                                                            \
		if (((flags)&O_CREAT) || ((flags)&O_TMPFILE) == O_TMPFILE) {                       \
			va_list ap_;                                                               \
			va_start(ap_, flags);                                                      \
			mode_ = va_arg(ap_, unsigned int);                                         \
			va_end(ap_);                                                               \
		}                                                                                  \
		mode_;                                                                             \
	})

static int open_file(int dir, const char *path, int flags, unsigned int mode)
{
	int fd = open_in_view(path, flags);

	if (fd >= 0)
		return fd;
	if (dir == AT_FDCWD && next_open)
		return ((open_fn)next_open)(path, flags, mode);
	if (next_openat)
		return ((openat_fn)next_openat)(dir, path, flags, mode);
	return (int)preload_ret(sysc4(SYS_openat, dir, (long)path, flags, mode));
}

EXPORT int open(const char *path, int flags, ...)
{
	return open_file(AT_FDCWD, path, flags, MODE(flags));
}

EXPORT int openat(int dir, const char *path, int flags, ...)
{
	return open_file(dir, path, flags, MODE(flags));
}

/* What a compiler makes of an open() without a mode when it was asked to fortify programs. */
EXPORT int __open_2(const char *path, int flags)
{
	return open_file(AT_FDCWD, path, flags, 0);
}

EXPORT int __openat_2(int dir, const char *path, int flags)
{
	return open_file(dir, path, flags, 0);
}

EXPORT FILE *fopen(const char *path, const char *mode)
{
	char room[ROOM];
	const char *there = in_the_view(path, room);
	FILE *f = NULL;

	if (there)
		f = ((fopen_fn)preload_next(&next_fopen, "fopen64"))(there, mode);
	return f ? f : ((fopen_fn)preload_next(&next_fopen, "fopen64"))(path, mode);
}

/* Files are of 64 bits on all machines that we know. */
EXPORT_ALIAS(open64, open);
EXPORT_ALIAS(openat64, openat);
EXPORT_ALIAS(__open64_2, __open_2);
EXPORT_ALIAS(__openat64_2, __openat_2);
EXPORT_ALIAS(fopen64, fopen);
