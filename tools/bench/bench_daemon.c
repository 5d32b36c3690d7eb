/* SPDX-License-Identifier: MIT */
/*
 * bench_daemon.c - ksmd-user as one side of a comparison.
 *
 * Every round gets a daemon of its own in a fresh runtime directory, so that rounds are alike and no
 * daemon of the operator's is touched. It is given the values that the kernel's knobs have (scan
 * rate, smart_scan, max_page_sharing, merge_across_nodes, use_zero_pages), nothing else is tuned. It dies
 * with this process (PR_SET_PDEATHSIG).
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

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
				     "vma_budget_percent" };

static int control_connect(struct side *s)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%.90s/control.sock", s->dir);
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa))) {
		int err = -errno;

		close(fd);
		return err;
	}
	s->control = fd;
	return 0;
}

/* Read `len` bytes, or up to and including a newline when len is 0. Ten seconds at most. */
static int control_read(struct side *s, char *buf, size_t size, size_t len)
{
	size_t n = 0;

	while (len ? n < len : !n || buf[n - 1] != '\n') {
		struct pollfd p = { .fd = s->control, .events = POLLIN };
		int r = poll(&p, 1, 10000);

		if (r == 0)
			return -ETIMEDOUT;
		if (r < 0)
			return -errno;
		if (n == size - 1)
			return -EMSGSIZE;
		if (read(s->control, buf + n, 1) != 1) /* answers are a few bytes */
			return -ECONNRESET;
		n++;
	}
	buf[n] = 0;
	return 0;
}

static int exchange(struct side *s, const char *line, char *head, size_t size)
{
	if (send(s->control, line, strlen(line), MSG_NOSIGNAL) < 0)
		return -errno;
	return control_read(s, head, size, 0);
}

static int request(struct side *s, const char *line, char *buf, size_t size)
{
	char head[256];
	size_t len;
	int err;

	buf[0] = 0;
	err = exchange(s, line, head, sizeof(head));
	if (err == -EPIPE || err == -ECONNRESET) {
		/* The daemon gives up connections on which nothing was said for long: filling 8 GiB. */
		close(s->control);
		s->control = -1;
		err = control_connect(s);
		err = err ? err : exchange(s, line, head, sizeof(head));
	}
	if (!err && sscanf(head, "ok %zu", &len) == 1)
		return len ? control_read(s, buf, size, len) : 0;
	if (err == -EINTR || bench_stop)
		return -EINTR;
	complain("ksmd-user: %.*s: %s", (int)strcspn(line, "\n"), line,
		 err ? strerror(-err) : head);
	return err ? err : -EPROTO;
}

int user_get(struct side *s, const char *path, char *buf, size_t size)
{
	char line[256];

	snprintf(line, sizeof(line), "get %s\n", path);
	return request(s, line, buf, size);
}

int user_set(struct side *s, const char *path, const char *value)
{
	char line[256], buf[256];

	snprintf(line, sizeof(line), "set %s %s\n", path, value);
	return request(s, line, buf, sizeof(buf));
}

static int user_spawn(struct side *s)
{
	char path[600];
	int err = sibling_path("KSMD_USER", "ksmd-user", path, sizeof(path));

	if (err)
		return err;
	snprintf(s->dir, sizeof(s->dir), "/tmp/ksm-bench.XXXXXX");
	if (!mkdtemp(s->dir)) {
		err = -errno;
		complain("%s: %s", s->dir, strerror(errno));
		s->dir[0] = 0;
		return err;
	}
	s->pid = fork();
	if (s->pid < 0)
		return -errno;
	if (!s->pid) {
		int null = open("/dev/null", O_RDWR);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(null, 0);
		dup2(2, 1);
		execl(path, path, "--runtime-dir", s->dir, "--log-level", "warning", (char *)NULL);
		complain("%s: %s", path, strerror(errno));
		_exit(127);
	}
	return 0;
}

static int user_wait(struct side *s)
{
	for (int i = 0; i < 1000; i++) { /* ten seconds: it only has to make two sockets */
		int status, err = control_connect(s);

		if (!err)
			return 0;
		if (waitpid(s->pid, &status, WNOHANG) == s->pid) {
			complain("ksmd-user ended at once, with status %#x", status);
			s->pid = 0;
			return -ECHILD;
		}
		if (bench_sleep_ms(10))
			return -EINTR;
	}
	complain("ksmd-user does not answer on %s/control.sock", s->dir);
	return -ETIMEDOUT;
}

static int knob(struct side *s, const char *name, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), "ksm/%s", name);
	return user_set(s, path, value);
}

static int knobs_set(struct side *s)
{
	const struct bench_config *cfg = s->cfg;
	int err = knob(s, "run", "0");

	err = err ? err : knob(s, "advisor_mode", "none");
	err = err ? err : knob(s, "sleep_millisecs", "0");
	/* The kernel's passes follow each other without a pause; ours would rest between them. */
	err = err ? err : knob(s, "max_idle_millisecs", "1");
	err = err ? err : knob(s, "pages_to_scan", BENCH_PAGES_TO_SCAN);
	err = err ? err : knob(s, "use_zero_pages", cfg->workload->zero ? "1" : "0");
	if (cfg->smart_scan >= 0)
		err = err ? err : knob(s, "smart_scan", cfg->smart_scan ? "1" : "0");
	else if (*kernel_knob_saved("smart_scan"))
		err = err ? err : knob(s, "smart_scan", kernel_knob_saved("smart_scan"));
	for (size_t i = 0; i < sizeof(copied) / sizeof(copied[0]); i++)
		if (*kernel_knob_saved(copied[i]))
			err = err ? err : knob(s, copied[i], kernel_knob_saved(copied[i]));
	return err;
}

static int knobs_describe(struct side *s)
{
	size_t n = 0;

	s->knobs_text[0] = 0;
	for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++) {
		char path[128], v[128];
		int err;

		snprintf(path, sizeof(path), "ksm/%s", shown[i]);
		err = user_get(s, path, v, sizeof(v));
		if (err)
			return err;
		if (strchr(v, '[')) {
			memmove(v, strchr(v, '[') + 1, strlen(strchr(v, '[')));
			v[strcspn(v, "]")] = 0;
		}
		v[strcspn(v, "\n")] = 0;
		n += (size_t)snprintf(s->knobs_text + n, KNOBS_TEXT - n, "%s%s=%s", n ? " " : "",
				      shown[i], v);
	}
	return 0;
}

int user_start(struct side *s)
{
	int err = user_spawn(s);

	err = err ? err : user_wait(s);
	err = err ? err : knobs_set(s);
	err = err ? err : knobs_describe(s);
	if (!err)
		setenv("KSMD_RUNTIME_DIR", s->dir, 1); /* for the workers */
	return err;
}

void user_stop(struct side *s)
{
	if (s->control >= 0)
		close(s->control);
	s->control = -1;
	if (s->pid > 0) {
		int i, status;

		kill(s->pid, SIGTERM);
		for (i = 0; i < 500 && waitpid(s->pid, &status, WNOHANG) == 0; i++)
			poll(NULL, 0, 10);
		if (i == 500) {
			complain("ksmd-user did not end within 5 s of SIGTERM; killed");
			kill(s->pid, SIGKILL);
			waitpid(s->pid, &status, 0);
		}
	}
	s->pid = 0;
	if (s->dir[0]) {
		static const char *const files[] = { "client.sock", "control.sock", "lock", "pid" };
		char path[256];

		for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
			snprintf(path, sizeof(path), "%s/%s", s->dir, files[i]);
			unlink(path);
		}
		if (rmdir(s->dir))
			complain("%s: %s", s->dir, strerror(errno));
	}
	s->dir[0] = 0;
}
