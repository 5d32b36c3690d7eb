/* SPDX-License-Identifier: MIT */
/* viewed.c - see viewed.h. */
#include "tests/lib/viewed.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

#define KERNEL_DIR "/sys/kernel/mm/ksm"
#define KSM "ksm/"

/* Why there can be no view here; NULL: there can. */
static const char *why_not(const char *program)
{
	if (geteuid() != 0)
		return "mounting takes root";
	if (access("/dev/fuse", F_OK))
		return "/dev/fuse is not there";
	if (access(program, X_OK))
		return "ksmd-fs is not built";
	return access(KERNEL_DIR, F_OK) ? "the kernel has no KSM" : NULL;
}

static bool mounted(const char *ksm, int timeout_ms)
{
	uint64_t end = clock_ms() + (uint64_t)timeout_ms;

	while (access(ksm, X_OK)) {
		if (clock_ms() > end)
			return false;
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	return true;
}

int viewed_start(struct viewed *v, const char *dir, const char *program, int timeout_ms)
{
	pid_t parent = getpid();
	char ksm[320];

	if (v->pid || !getenv("KSM_TEST_VIEW"))
		return 0;
	if (why_not(program)) {
		printf("SKIP: no view: %s\n", why_not(program));
		fflush(stdout);
		_exit(EXIT_SUCCESS); /* the daemon ends with us */
	}
	snprintf(v->mnt, sizeof(v->mnt), "%s/view", dir);
	snprintf(ksm, sizeof(ksm), "%s/kernel/mm/ksm", v->mnt);
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mkdir(v->mnt, 0755))
		return -errno;
	v->pid = fork();
	if (v->pid < 0)
		return -errno;
	if (!v->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() == parent)
			execl(program, "ksmd-fs", "-f", "--runtime-dir", dir, v->mnt, NULL);
		_exit(127);
	}
	if (!mounted(ksm, timeout_ms))
		return -ETIMEDOUT;
	return mount(ksm, KERNEL_DIR, NULL, MS_BIND, NULL) ? -errno : 0;
}

void viewed_stop(struct viewed *v)
{
	if (!v->pid)
		return;
	umount2(KERNEL_DIR, MNT_DETACH);
	umount2(v->mnt, MNT_DETACH);
	waitpid(v->pid, NULL, 0); /* without its mount it ends */
	rmdir(v->mnt);
	v->pid = 0;
}

/* The file: the kernel's where it has one. */
static void file_of(const struct viewed *v, const char *path, char *file, size_t size)
{
	snprintf(file, size, KERNEL_DIR "/%s", path + strlen(KSM));
	if (strncmp(path, KSM, strlen(KSM)) || access(file, F_OK))
		snprintf(file, size, "%s/ksmd/%s", v->mnt, path);
}

bool viewed_has(const struct viewed *v, const char *path)
{
	static const char *const dirs[] = { KSM,     "client/", "domain/", "user/",
					    "node/", "limit/",  "daemon/" };

	/* The kernel resolves these itself, and the daemon refuses them. */
	if (strstr(path, "//") || strstr(path, "/.."))
		return false;
	for (size_t i = 0; v->pid && i < sizeof(dirs) / sizeof(dirs[0]); i++)
		if (!strncmp(path, dirs[i], strlen(dirs[i])))
			return true;
	return false;
}

/*
 * The view says EIO where a connection of the test's own would find nobody, and the kernel says
 * itself that nothing lies below a file.
 */
static int error(void)
{
	return errno == EIO ? -ENOTCONN : errno == ENOTDIR ? -ENOENT : -errno;
}

int viewed_get(const struct viewed *v, const char *path, char *buf, size_t size)
{
	char file[600], text[8192];
	int fd, ret;
	ssize_t n;

	file_of(v, path, file, sizeof(file));
	fd = open(file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error();
	n = read(fd, text, sizeof(text) - 1);
	ret = n < 0 ? error() : (int)n;
	close(fd);
	if (ret < 0)
		return ret;
	text[ret] = '\0';
	if (ret && text[ret - 1] == '\n')
		text[--ret] = '\0';
	return size ? snprintf(buf, size, "%s", text) : 0;
}

int viewed_set(const struct viewed *v, const char *path, const char *value)
{
	size_t len = strlen(value);
	char file[600];
	int fd, ret = 0;

	file_of(v, path, file, sizeof(file));
	fd = open(file, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return error();
	if (write(fd, value, len) != (ssize_t)len)
		ret = error();
	close(fd);
	return ret;
}
