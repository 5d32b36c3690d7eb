/* SPDX-License-Identifier: MIT */
/*
 * client_fds.c - see client_fds.h.
 *
 * A descriptor that names another process would let a client have that process scanned and read.
 * The client was able to open it, so it gains nothing that it did not have. But the counters would
 * lie, and a pidfd of a process that never ends would keep a dead client alive. So the daemon
 * checks all three against the pid that the kernel vouches for (SO_PEERCRED).
 *
 * A pidfd says in its fdinfo whose it is, in our pid namespace and in those below. The path of the
 * other two holds the number that the process has in the namespace of the /proc it opened them in,
 * which for a process in a container is one of the inner ones. The device number tells that the
 * path lies on a procfs: that of our own /proc, or of a proc mount of the process.
 */
#include "daemon/client_fds.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

int read_text(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, buf, size - 1);
	close(fd);
	if (n < 0)
		return -EIO;
	buf[n] = '\0';
	return 0;
}

int pidfd_pids(int fd, struct pids *p)
{
	char path[64], text[1024], *s, *end;
	int err;

	p->nr = 0;
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	err = read_text(path, text, sizeof(text));
	if (err)
		return err;
	s = strstr(text, "\nNSpid:");
	if (!s)
		s = strstr(text, "\nPid:"); /* a kernel without pid namespaces */
	if (!s)
		return -EBADF;
	for (s = strchr(s, ':') + 1; p->nr < MAX_PID_NS; s = end) {
		long pid = strtol(s, &end, 10);

		if (end == s)
			break;
		p->v[p->nr++] = pid;
		if (*end == '\n')
			break;
	}
	if (p->nr > 0 && p->v[0] < 0)
		return -ESRCH;
	return p->nr > 0 && p->v[0] > 0 ? 0 : -EBADF;
}

/* Does `path` end in /N/name or /N/task/M/name, N being one of the pids? */
static bool path_names(char *path, const char *name, const struct pids *p)
{
	char *slash = strrchr(path, '/'), *end;
	long pid;

	if (!slash || strcmp(slash + 1, name))
		return false;
	*slash = '\0';
	slash = strrchr(path, '/');
	if (slash && slash - path >= 5 && !strncmp(slash - 5, "/task", 5)) {
		slash[-5] = '\0';
		slash = strrchr(path, '/');
	}
	if (!slash)
		return false;
	pid = strtol(slash + 1, &end, 10);
	if (end == slash + 1 || *end)
		return false;
	for (int i = 0; i < p->nr; i++)
		if (p->v[i] == pid)
			return true;
	return false;
}

/* Is this device one of the proc mounts that the process sees? */
static bool mounted_as_proc(pid_t pid, unsigned int major_nr, unsigned int minor_nr)
{
	char path[64], line[4096], want[64], *dash;
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/mountinfo", (int)pid);
	snprintf(want, sizeof(want), " %u:%u ", major_nr, minor_nr);
	f = fopen(path, "re");
	if (!f)
		return false;
	while (!found && fgets(line, sizeof(line), f)) {
		dash = strstr(line, " - ");
		found = dash && !strncmp(dash, " - proc ", 8) && strstr(line, want);
	}
	fclose(f);
	return found;
}

static bool on_procfs(int fd, pid_t pid)
{
	struct statx file, proc;

	/* DONT_SYNC: answered from what the kernel knows, without asking the file system. */
	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &file) ||
	    !S_ISREG(file.stx_mode))
		return false;
	if (statx(AT_FDCWD, "/proc/self", AT_STATX_DONT_SYNC, STATX_TYPE, &proc))
		return false;
	if (file.stx_dev_major == proc.stx_dev_major && file.stx_dev_minor == proc.stx_dev_minor)
		return true;
	return mounted_as_proc(pid, file.stx_dev_major, file.stx_dev_minor);
}

static bool is_proc_file(int fd, const char *name, const struct pids *p, pid_t pid)
{
	char link[64], path[256];
	int flags = fcntl(fd, F_GETFL);
	ssize_t n;

	if (flags < 0 || (flags & O_ACCMODE) == O_WRONLY || (flags & O_PATH))
		return false;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0)
		return false;
	path[n] = '\0';
	return path_names(path, name, p) && on_procfs(fd, pid);
}

static int check(const int fds[CLIENT_FDS_NR], pid_t pid, char *why, size_t size)
{
	struct pids p;
	int err = pidfd_pids(fds[CLIENT_PIDFD], &p);

	if (err == -ESRCH)
		return err;
	if (err && err != -EBADF) {
		/* The daemon is short of something; it is no fault of the client's. */
		snprintf(why, size, "the daemon cannot look at descriptors: error %d", -err);
		return err;
	}
	if (err) {
		snprintf(why, size, "first descriptor is not a pidfd");
		return -EBADF;
	}
	if (p.v[0] != pid) {
		snprintf(why, size, "pidfd is of process %ld, not %d", p.v[0], (int)pid);
		return -EBADF;
	}
	if (!is_proc_file(fds[CLIENT_PAGEMAP], "pagemap", &p, pid)) {
		snprintf(why, size, "second descriptor is not /proc/%d/pagemap", (int)pid);
		return -EBADF;
	}
	if (!is_proc_file(fds[CLIENT_MEM], "mem", &p, pid)) {
		snprintf(why, size, "third descriptor is not /proc/%d/mem", (int)pid);
		return -EBADF;
	}
	return 0;
}

int client_fds_check(const int fds[CLIENT_FDS_NR], pid_t pid, char *why, size_t size)
{
	struct pids p;
	int err = check(fds, pid, why, size);

	/* A process that is ending has lost what was checked. */
	if (err == -EBADF && pidfd_pids(fds[CLIENT_PIDFD], &p) == -ESRCH)
		err = -ESRCH;
	if (err == -ESRCH)
		snprintf(why, size, "the process has ended");
	return err;
}
