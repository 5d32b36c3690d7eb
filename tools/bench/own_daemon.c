/* SPDX-License-Identifier: MIT */
/*
 * own_daemon.c - ksmd-user as one side of a comparison.
 *
 * Every round gets a daemon of its own in a fresh runtime directory, so that rounds are alike and
 * the operator's daemon is left alone. The daemon gets the values that the kernel's knobs have:
 * scan rate, smart_scan, max_page_sharing, merge_across_nodes, use_zero_pages. Nothing else is
 * tuned. It dies with this process (PR_SET_PDEATHSIG).
 */
#include "own_daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "file.h"
#include "kernel.h"
#include "message.h"
#include "stop.h"
#include "wire/runtime_dir.h"

enum {
	START_MS = 10000, /* it only has to make two sockets */
	END_MS = 5000,
	ANSWER_MS = 10000,
	POLL_MS = 10,
	MAX_ARGS = 8, /* beyond our own */
};

static const char *const copied[] = { "merge_across_nodes", "max_page_sharing",
				      "stable_node_chains_prune_millisecs" };
static const char *const shown[] = { "sleep_millisecs",
				     "pages_to_scan",
				     "merge_across_nodes",
				     "max_page_sharing",
				     "stable_node_chains_prune_millisecs",
				     "use_zero_pages",
				     "smart_scan",
				     "advisor_mode",
				     "max_idle_millisecs",
				     "max_cpu_percent",
				     "vma_budget_percent" };

static int control_connect(struct own_daemon *d)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%.90s/control.sock", d->dir);
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa))) {
		int err = -errno;

		close(fd);
		return err;
	}
	d->control = fd;
	return 0;
}

/* Read `len` bytes, or up to and including a newline when len is 0. Waits ten seconds at most. */
static int control_read(struct own_daemon *d, char *buf, size_t size, size_t len)
{
	size_t n = 0;

	while (len ? n < len : !n || buf[n - 1] != '\n') {
		struct pollfd p = { .fd = d->control, .events = POLLIN };
		int r = poll(&p, 1, ANSWER_MS);

		if (r == 0)
			return -ETIMEDOUT;
		if (r < 0)
			return -errno;
		if (n == size - 1)
			return -EMSGSIZE;
		if (read(d->control, buf + n, 1) != 1) /* answers are a few bytes */
			return -ECONNRESET;
		n++;
	}
	buf[n] = 0;
	return 0;
}

static int exchange(struct own_daemon *d, const char *line, char *head, size_t size)
{
	if (send(d->control, line, strlen(line), MSG_NOSIGNAL) < 0)
		return -errno;
	return control_read(d, head, size, 0);
}

int own_daemon_request(struct own_daemon *d, const char *line, char *buf, size_t size)
{
	char head[256];
	size_t len;
	int err;

	buf[0] = 0;
	err = exchange(d, line, head, sizeof(head));
	if (err == -EPIPE || err == -ECONNRESET) {
		/*
		 * The daemon gives up connections that are silent for long, as while 8 GiB are
		 * filled.
		 */
		close(d->control);
		d->control = -1;
		err = control_connect(d);
		err = err ? err : exchange(d, line, head, sizeof(head));
	}
	if (!err && sscanf(head, "ok %zu", &len) == 1)
		return len ? control_read(d, buf, size, len) : 0;
	if (err == -EINTR || bench_stop)
		return -EINTR;
	complain("ksmd-user: %.*s: %s", (int)strcspn(line, "\n"), line,
		 err ? strerror(-err) : head);
	return err ? err : -EPROTO;
}

int own_daemon_get(struct own_daemon *d, const char *name, char *buf, size_t size)
{
	char line[256];

	snprintf(line, sizeof(line), "get ksm/%s\n", name);
	return own_daemon_request(d, line, buf, size);
}

int own_daemon_set(struct own_daemon *d, const char *name, const char *value)
{
	char line[256], buf[256];

	snprintf(line, sizeof(line), "set ksm/%s %s\n", name, value);
	return own_daemon_request(d, line, buf, sizeof(buf));
}

static int daemon_spawn(struct own_daemon *d, const char *const more[])
{
	const char *name = "ksmd-user", *args[MAX_ARGS + 6] = { NULL };
	char path[600];
	int nr = 5;
	int err = file_of_project("KSMD_USER", &name, 1, path, sizeof(path));

	if (err)
		return err;
	memcpy(args, (const char *[]){ path, "--runtime-dir", d->dir, "--log-level", "warning" },
	       5 * sizeof(args[0]));
	while (more && *more && nr < MAX_ARGS + 5)
		args[nr++] = *more++;
	snprintf(d->dir, sizeof(d->dir), "/tmp/ksm-bench.XXXXXX");
	if (!mkdtemp(d->dir)) {
		err = -errno;
		complain("%s: %s", d->dir, strerror(errno));
		d->dir[0] = 0;
		return err;
	}
	d->pid = fork();
	if (d->pid < 0)
		return -errno;
	if (!d->pid) {
		int null = open("/dev/null", O_RDWR);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(null, 0);
		dup2(2, 1);
		execv(path, (char *const *)args);
		complain("%s: %s", path, strerror(errno));
		_exit(127);
	}
	return 0;
}

static int daemon_wait(struct own_daemon *d)
{
	for (int ms = 0; ms < START_MS; ms += POLL_MS) {
		int status, err = control_connect(d);

		if (!err)
			return 0;
		if (waitpid(d->pid, &status, WNOHANG) == d->pid) {
			complain("ksmd-user ended at once, with status %#x", status);
			d->pid = 0;
			return -ECHILD;
		}
		if (stop_sleep_ms(POLL_MS))
			return -EINTR;
	}
	complain("ksmd-user does not answer on %s/control.sock", d->dir);
	return -ETIMEDOUT;
}

static int knobs_set(struct own_daemon *d, const struct bench_config *cfg)
{
	bool zero = cfg->workload.contents == CONTENTS_ZERO;
	int err = own_daemon_set(d, "run", "0");

	err = err ? err : own_daemon_set(d, "advisor_mode", "none");
	err = err ? err : own_daemon_set(d, "sleep_millisecs", "0");
	/* The kernel's passes follow each other without a pause; without this, ours would rest. */
	err = err ? err : own_daemon_set(d, "max_idle_millisecs", "1");
	err = err ? err : own_daemon_set(d, "max_cpu_percent", "100");
	err = err ? err : own_daemon_set(d, "pages_to_scan", BENCH_PAGES_TO_SCAN);
	err = err ? err : own_daemon_set(d, "use_zero_pages", zero ? "1" : "0");
	if (cfg->smart_scan >= 0)
		err = err ? err : own_daemon_set(d, "smart_scan", cfg->smart_scan ? "1" : "0");
	else if (*kernel_knob_saved("smart_scan"))
		err = err ? err : own_daemon_set(d, "smart_scan", kernel_knob_saved("smart_scan"));
	for (size_t i = 0; i < sizeof(copied) / sizeof(copied[0]) && !err; i++) {
		const char *saved = kernel_knob_saved(copied[i]);

		if (*saved)
			err = own_daemon_set(d, copied[i], saved);
	}
	return err;
}

static int knobs_tell(struct own_daemon *d, struct round *out)
{
	char v[128];
	int err = 0;

	for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]) && !err; i++) {
		err = own_daemon_get(d, shown[i], v, sizeof(v));
		if (!err)
			round_knob(out, shown[i], v);
	}
	return err;
}

int own_daemon_start_as(struct own_daemon *d, const char *const more[])
{
	int err;

	*d = (struct own_daemon){ .control = -1 };
	err = daemon_spawn(d, more);
	err = err ? err : daemon_wait(d);
	if (!err)
		setenv(KSM_DIR_VAR, d->dir, 1); /* for the tenants */
	return err;
}

int own_daemon_start(struct own_daemon *d, const struct bench_config *cfg, struct round *out)
{
	int err = own_daemon_start_as(d, NULL);

	err = err ? err : knobs_set(d, cfg);
	return err ? err : knobs_tell(d, out);
}

/* Ask the process to end, and wait. Returns whether it did in time. */
static bool wait_end(pid_t pid)
{
	kill(pid, SIGTERM);
	for (int ms = 0; ms < END_MS; ms += POLL_MS) {
		if (waitpid(pid, NULL, WNOHANG) != 0)
			return true;
		poll(NULL, 0, POLL_MS);
	}
	return false;
}

void own_daemon_stop(struct own_daemon *d)
{
	if (d->control >= 0)
		close(d->control);
	d->control = -1;
	if (d->pid > 0 && !wait_end(d->pid)) {
		complain("ksmd-user did not end within %d s of SIGTERM; killed", END_MS / 1000);
		kill(d->pid, SIGKILL);
		waitpid(d->pid, NULL, 0);
	}
	d->pid = 0;
	if (d->dir[0]) {
		static const char *const files[] = { "client.sock", "control.sock", "lock", "pid" };
		char path[256];

		for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
			snprintf(path, sizeof(path), "%s/%s", d->dir, files[i]);
			unlink(path);
		}
		if (rmdir(d->dir))
			complain("%s: %s", d->dir, strerror(errno));
	}
	d->dir[0] = 0;
}
