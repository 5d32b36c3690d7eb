/* SPDX-License-Identifier: MIT */
/*
 * harness.c - see harness.h.
 *
 * A daemon is up when it answers on its control socket, not when a file appears. So no test guesses
 * how long a start takes.
 */
#include "tests/lib/harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/ending.h"
#include "wire/wire.h"

#define MAX_ARGS 32
#define CONNECTED 3u /* SS_CONNECTED of linux/net.h, as /proc/net/unix shows it */

void harness_die_at(const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s:%d: ", file, line);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	fflush(NULL);
	abort();
}

const char *build_path(const char *name)
{
	static char path[4096];
	const char *dir = getenv("KSM_BUILD");

	snprintf(path, sizeof(path), "%s/%s", dir ? dir : "build", name);
	return path;
}

uint64_t harness_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

void harness_nap(void)
{
	/* 2 ms: short beside every timeout, long enough to leave the processor to the daemon. */
	nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
}

int harness_connect(const char *dir, const char *name, int type)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd, err;

	if ((size_t)snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/%s", dir, name) >=
	    sizeof(sun.sun_path))
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun))) {
		err = errno;
		close(fd);
		return -err;
	}
	return fd;
}

/* A thread of the daemon's has its own delays open for as long as it lives (delay.h). */
static bool is_of_a_thread(int dir, const char *name)
{
	static const char end[] = "/schedstat";
	char at[PATH_MAX];
	ssize_t n = readlinkat(dir, name, at, sizeof(at));
	ssize_t len = sizeof(end) - 1;

	return n >= len && !memcmp(at + n - len, end, (size_t)len);
}

int harness_nr_fds(pid_t pid)
{
	char path[64];
	struct dirent *de;
	DIR *dir;
	int nr = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	if (!dir)
		harness_die("%s: %s", path, strerror(errno));
	while ((de = readdir(dir)))
		nr += de->d_name[0] != '.' && !is_of_a_thread(dirfd(dir), de->d_name);
	closedir(dir);
	return nr;
}

/* The inodes of the accepted connections to a daemon's control socket. Returns how many. */
static int control_connections(const struct daemon *d, unsigned long ino[], int max)
{
	char path[sizeof(d->dir) + sizeof(KSM_CONTROL_SOCKET)], line[512], at[128];
	unsigned int state;
	int nr = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/net/unix", (int)d->pid);
	f = fopen(path, "re");
	if (!f)
		harness_die("%s: %s", path, strerror(errno));
	snprintf(path, sizeof(path), "%s/%s", d->dir, KSM_CONTROL_SOCKET);
	while (nr < max && fgets(line, sizeof(line), f))
		if (sscanf(line, "%*s %*x %*x %*x %*x %x %lu %127s", &state, &ino[nr], at) == 3 &&
		    state == CONNECTED && !strcmp(at, path))
			nr++;
	fclose(f);
	return nr;
}

int daemon_nr_fds(const struct daemon *d)
{
	unsigned long ino[64];
	/* Looked up first: one that is closed in between counts neither here nor there. */
	int nr = control_connections(d, ino, 64), nr_fds = 0;
	char path[64], link[64], target[64];
	struct dirent *de;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)d->pid);
	dir = opendir(path);
	if (!dir)
		harness_die("%s: %s", path, strerror(errno));
	while ((de = readdir(dir))) {
		ssize_t n = readlinkat(dirfd(dir), de->d_name, target, sizeof(target) - 1);
		bool control = false;

		if (n < 0) /* "." and "..", and what is closed by now */
			continue;
		target[n] = '\0';
		for (int i = 0; i < nr && !control; i++) {
			snprintf(link, sizeof(link), "socket:[%lu]", ino[i]);
			control = !strcmp(target, link);
		}
		nr_fds += !control && !is_of_a_thread(dirfd(dir), de->d_name);
	}
	closedir(dir);
	return nr_fds;
}

long harness_status(pid_t pid, const char *key)
{
	char path[64], line[256];
	size_t n = strlen(key);
	long v = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, n) && line[n] == ':')
			v = strtol(line + n + 1, NULL, 10);
	if (f)
		fclose(f);
	if (v < 0)
		harness_die("%s has no %s", path, key);
	return v;
}

/* ---- starting and stopping ---- */

static void exec_daemon(const char *dir, const char *const extra_args[], pid_t parent)
{
	const char *daemon = getenv("KSM_DAEMON");
	const char *argv[MAX_ARGS] = { daemon ? daemon : build_path("ksmd-user"), "--runtime-dir",
				       dir };
	int argc = 3;

	for (int i = 0; extra_args && extra_args[i] && argc < MAX_ARGS - 1; i++)
		argv[argc++] = extra_args[i];
	argv[argc] = NULL;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent) /* it died before the line above */
		_exit(126);
	execv(argv[0], (char *const *)argv);
	fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

static void spawn(struct daemon *d, const char *const extra_args[])
{
	pid_t parent = getpid();
	char buf[64];
	int err;

	d->pid = fork();
	if (d->pid < 0)
		harness_die("fork: %s", strerror(errno));
	if (d->pid == 0)
		exec_daemon(d->dir, extra_args, parent);
	setenv("KSMD_RUNTIME_DIR", d->dir, 1);
	for (uint64_t end = harness_now_ms() + WAIT_MS;; harness_nap()) {
		int status;

		if (ctl_get(d, "daemon/pid", buf, sizeof(buf)) > 0 && atoi(buf) == d->pid)
			break;
		if (waitpid(d->pid, &status, WNOHANG) == d->pid)
			harness_die("the daemon ended at its start, status %#x", (unsigned)status);
		if (harness_now_ms() > end)
			harness_die("the daemon did not answer within %d ms", WAIT_MS);
	}
	err = viewed_start(&d->view, d->dir, build_path("ksmd-fs"), WAIT_MS);
	if (err)
		harness_die("no view in %s: %s", d->dir, strerror(-err));
}

static struct daemon *daemon_new(void)
{
	struct daemon *d = calloc(1, sizeof(*d));

	if (!d)
		harness_die("no memory");
	return d;
}

struct daemon *daemon_start(const char *const extra_args[])
{
	struct daemon *d = daemon_new();
	const char *tmp = getenv("TMPDIR");

	snprintf(d->dir, sizeof(d->dir), "%s/ksmd-test.XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(d->dir))
		harness_die("mkdtemp %s: %s", d->dir, strerror(errno));
	if (geteuid() == 0) /* tests that drop their privileges must still reach client.sock */
		chmod(d->dir, 0755);
	d->own_dir = true;
	spawn(d, extra_args);
	return d;
}

struct daemon *daemon_start_in(const char *dir, const char *const extra_args[])
{
	struct daemon *d = daemon_new();

	snprintf(d->dir, sizeof(d->dir), "%s", dir);
	spawn(d, extra_args);
	return d;
}

static void remove_dir(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *de;

	while (dir && (de = readdir(dir)))
		if (strcmp(de->d_name, ".") && strcmp(de->d_name, ".."))
			unlinkat(dirfd(dir), de->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir(path);
}

void daemon_stop(struct daemon *d)
{
	int status;

	viewed_stop(&d->view);
	if (d->pid) {
		status = ending_term(d->pid, WAIT_MS);
		if (status == -1)
			harness_die("the daemon did not end within %d ms of SIGTERM", WAIT_MS);
		if (status != 0)
			harness_die("the daemon ended with status %#x", (unsigned)status);
	}
	if (d->own_dir)
		remove_dir(d->dir);
	free(d);
}

void daemon_kill(struct daemon *d)
{
	kill(d->pid, SIGKILL);
	waitpid(d->pid, NULL, 0);
	d->pid = 0;
}

void daemon_restart(struct daemon *d, const char *const extra_args[])
{
	spawn(d, extra_args);
}

int daemon_expect_exit(const char *dir, const char *const extra_args[], char *err, size_t size)
{
	pid_t parent = getpid(), pid;
	int pipefd[2], status;
	size_t len = 0;
	ssize_t n;

	if (pipe2(pipefd, O_CLOEXEC))
		harness_die("pipe: %s", strerror(errno));
	pid = fork();
	if (pid == 0) {
		dup2(pipefd[1], STDERR_FILENO);
		exec_daemon(dir, extra_args, parent);
	}
	close(pipefd[1]);
	status = ending_wait(pid, WAIT_MS);
	if (status == -1) {
		kill(pid, SIGKILL);
		harness_die("the daemon did not end");
	}
	while (len + 1 < size && (n = read(pipefd[0], err + len, size - 1 - len)) > 0)
		len += (size_t)n;
	err[len] = '\0';
	close(pipefd[0]);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* ---- the control socket ---- */

/* Read one line; the byte after its newline is the next to be read. */
static int read_line(int fd, char *line, size_t size)
{
	size_t len = 0;

	while (len + 1 < size) {
		if (read(fd, line + len, 1) != 1)
			return -ENOTCONN;
		if (line[len] == '\n')
			break;
		len++;
	}
	line[len] = '\0';
	return 0;
}

static int read_body(int fd, size_t len, char *buf, size_t size)
{
	size_t got = 0;

	while (got < len) {
		char c;
		ssize_t n = read(fd, got < size ? buf + got : &c,
				 got < size ? (len < size ? len - got : size - got) : 1);

		if (n <= 0)
			return -ENOTCONN;
		got += (size_t)n;
	}
	if (!size)
		return 0;
	if (got > size - 1)
		got = size - 1;
	buf[got] = '\0';
	if (got && buf[got - 1] == '\n')
		buf[--got] = '\0';
	return (int)got;
}

static int errno_by_name(const char *name)
{
	size_t len = strcspn(name, " ");

	for (int e = 1; e < 134; e++) {
		const char *s = strerrorname_np(e);

		if (s && strlen(s) == len && !strncmp(s, name, len))
			return -e;
	}
	harness_die("the daemon named an unknown error: %s", name);
}

static int command(struct daemon *d, const char *line, char *buf, size_t size)
{
	int fd = harness_connect(d->dir, KSM_CONTROL_SOCKET, SOCK_STREAM);
	char head[512];
	int ret;

	if (fd < 0)
		return -ENOTCONN;
	if (send(fd, line, strlen(line), MSG_NOSIGNAL) != (ssize_t)strlen(line))
		ret = -ENOTCONN;
	else
		ret = read_line(fd, head, sizeof(head));
	if (ret == 0) {
		if (!strncmp(head, "ok ", 3))
			ret = read_body(fd, strtoul(head + 3, NULL, 10), buf, size);
		else if (!strncmp(head, "error ", 6))
			ret = errno_by_name(head + 6);
		else
			harness_die("not an answer: %s", head);
	}
	close(fd);
	return ret;
}

int ctl_get(struct daemon *d, const char *path, char *buf, size_t size)
{
	char line[1024];

	if (viewed_has(&d->view, path))
		return viewed_get(&d->view, path, buf, size);
	snprintf(line, sizeof(line), "get %s\n", path);
	return command(d, line, buf, size);
}

int ctl_ls(struct daemon *d, const char *path, char *buf, size_t size)
{
	char line[1024];

	snprintf(line, sizeof(line), "ls %s\n", path);
	return command(d, line, buf, size);
}

int ctl_do(struct daemon *d, const char *what, char *buf, size_t size)
{
	char line[1024];

	snprintf(line, sizeof(line), "do %s\n", what);
	return command(d, line, buf, size);
}

int ctl_set(struct daemon *d, const char *path, const char *value)
{
	char line[8192];

	/* A write of nothing is no store, so nobody hears of it. */
	if (viewed_has(&d->view, path) && *value)
		return viewed_set(&d->view, path, value);
	snprintf(line, sizeof(line), "set %s %s\n", path, value);
	return command(d, line, NULL, 0);
}

int ctl_set_u64(struct daemon *d, const char *path, uint64_t value)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	return ctl_set(d, path, text);
}

uint64_t ctl_get_u64(struct daemon *d, const char *path)
{
	char buf[128], *end;
	int ret = ctl_get(d, path, buf, sizeof(buf));
	uint64_t v;

	if (ret < 0)
		harness_die("get %s: %s", path, strerror(-ret));
	v = strtoull(buf, &end, 10);
	if (end == buf || *end)
		harness_die("get %s: not a number: %s", path, buf);
	return v;
}

int64_t ctl_get_s64(struct daemon *d, const char *path)
{
	return (int64_t)ctl_get_u64(d, path);
}

uint64_t ctl_client_u64(struct daemon *d, pid_t pid, const char *name)
{
	char path[256], buf[128];

	snprintf(path, sizeof(path), "client/%d/%s", (int)pid, name);
	return ctl_get(d, path, buf, sizeof(buf)) < 0 ? 0 : strtoull(buf, NULL, 10);
}

void wait_full_scans(struct daemon *d, unsigned int passes, int timeout_ms)
{
	uint64_t goal = ctl_get_u64(d, "ksm/full_scans") + passes;

	wait_until(ctl_get_u64(d, "ksm/full_scans") >= goal, timeout_ms, "full scans");
}
