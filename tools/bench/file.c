/* SPDX-License-Identifier: MIT */
/* file.c - files in one piece, and where they are. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "message.h"

ssize_t file_read(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n = 0;

	if (fd < 0)
		return -errno;
	while (len < size - 1 && (n = read(fd, buf + len, size - 1 - len)) > 0)
		len += (size_t)n;
	buf[len] = 0;
	n = n < 0 ? -errno : (ssize_t)len;
	close(fd);
	return n;
}

int file_number(const char *path, const char *name, uint64_t *value)
{
	char text[8192], *p;
	ssize_t n = file_read(path, text, sizeof(text));

	if (n < 0)
		return (int)n;
	p = strstr(text, name);
	return p && sscanf(p + strlen(name), " %lu", value) == 1 ? 0 : -EIO;
}

int file_of_process(pid_t pid, const char *file, const char *name, uint64_t *value)
{
	char path[64];
	int err;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	err = file_number(path, name, value);
	if (err)
		complain("%s cannot be read", path);
	return err;
}

int file_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC), err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		err = -errno;
	close(fd);
	return err;
}

const char *file_of_machine(const char *machine, const char *name, char *path, size_t size)
{
	const char *dir = getenv("KSM_BENCH_DIR");

	snprintf(path, size, "%s/%s", dir ? dir : machine, name);
	return path;
}

/* Path of `name` in this program's folder. Returns 0 or a negative errno. */
static int beside(const char *name, char *path, size_t size)
{
	char self[512];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n < 0)
		return -errno;
	self[n] = 0;
	*strrchr(self, '/') = 0;
	snprintf(path, size, "%s/%s", self, name);
	return 0;
}

int file_of_project(const char *env, const char *const names[], int nr, char *path, size_t size)
{
	const char *set = getenv(env);
	int err = -ENOENT;

	*path = 0;
	if (set) {
		snprintf(path, size, "%s", set);
		err = access(path, X_OK) ? -errno : 0;
	}
	for (int i = 0; i < nr && err && !set; i++) {
		err = beside(names[i], path, size);
		if (!err && access(path, X_OK))
			err = -errno;
	}
	if (err)
		complain("%s: %s (build it, or name it in $%s)", path, strerror(-err), env);
	return err;
}
