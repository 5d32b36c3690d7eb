/* SPDX-License-Identifier: MIT */
/*
 * test_control.c - the operator's side: settings, the tree, the text protocol, start and end.
 *
 * Every test has a daemon of its own and speaks to it through the real socket. Bad input must get a
 * clear error and must not disturb others. So its tests also check, over another connection, that
 * the daemon goes on serving, and count its descriptors.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/harness.h"
#include "wire/wire.h"

/* ---- a raw connection ---- */

static int raw_open(struct daemon *d)
{
	int fd = harness_connect(d->dir, KSM_CONTROL_SOCKET, SOCK_STREAM);

	ck_assert_int_ge(fd, 0);
	return fd;
}

static void raw_send(int fd, const char *data, size_t len)
{
	ck_assert_int_eq(send(fd, data, len, MSG_NOSIGNAL), (ssize_t)len);
}

static bool readable(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, timeout_ms) > 0;
}

/* Read up to the end of line, without it. Returns the length, or -1 at the end of the stream. */
static int raw_line(int fd, char *buf, size_t size)
{
	size_t len = 0;

	while (len + 1 < size) {
		if (!readable(fd, WAIT_MS))
			ck_abort_msg("no answer");
		if (read(fd, buf + len, 1) != 1)
			return -1;
		if (buf[len] == '\n')
			break;
		len++;
	}
	buf[len] = '\0';
	return (int)len;
}

static void expect_line(int fd, const char *want)
{
	char buf[512];

	ck_assert_int_ge(raw_line(fd, buf, sizeof(buf)), 0);
	ck_assert_str_eq(buf, want);
}

/* The answer must begin with this. */
static void expect_prefix(int fd, const char *want)
{
	char buf[512];

	ck_assert_int_ge(raw_line(fd, buf, sizeof(buf)), 0);
	ck_assert_msg(!strncmp(buf, want, strlen(want)), "got: %s", buf);
}

static void expect_end(int fd)
{
	char c;

	ck_assert(readable(fd, WAIT_MS));
	ck_assert_int_le(read(fd, &c, 1), 0);
}

static void expect_alive(struct daemon *d)
{
	ck_assert_uint_eq(ctl_get_u64(d, "daemon/pid"), (uint64_t)d->pid);
}

/* ---- knobs ---- */

static const struct {
	const char *path, *value;
	int result;
	const char *shown; /* NULL: as set */
} knob_cases[] = {
	{ "ksm/run", "0", 0, NULL },
	{ "ksm/run", "0", 0, NULL }, /* the same value again */
	{ "ksm/run", "1", 0, NULL },
	{ "ksm/run", "2", 0, NULL },
	{ "ksm/run", "2", 0, NULL },
	{ "ksm/run", "3", -EINVAL, NULL },
	{ "ksm/run", "-1", -EINVAL, NULL },
	{ "ksm/run", "one", -EINVAL, NULL },
	{ "ksm/run", "1 1", -EINVAL, NULL },
	{ "ksm/run", "", -EINVAL, NULL },
	{ "ksm/run", "99999999999999999999", -EINVAL, NULL },
	{ "ksm/pages_to_scan", "1234", 0, NULL },
	{ "ksm/pages_to_scan", "12x", -EINVAL, NULL },
	{ "ksm/pages_to_scan", "4294967296", -EINVAL, NULL },
	{ "ksm/sleep_millisecs", "0", 0, NULL },
	{ "ksm/sleep_millisecs", "  7 ", -EINVAL, NULL },
	{ "ksm/sleep_millisecs", "+7", 0, "7" },
	{ "ksm/merge_across_nodes", "0", 0, NULL },
	{ "ksm/merge_across_nodes", "1", 0, NULL },
	{ "ksm/merge_across_nodes", "2", -EINVAL, NULL },
	{ "ksm/max_page_sharing", "2", 0, NULL },
	{ "ksm/max_page_sharing", "1", -EINVAL, NULL },
	{ "ksm/max_page_sharing", "0", -EINVAL, NULL },
	{ "ksm/max_page_sharing", "2147483648", -ERANGE, NULL },
	{ "ksm/stable_node_chains_prune_millisecs", "0", 0, NULL },
	{ "ksm/use_zero_pages", "on", 0, "1" },
	{ "ksm/use_zero_pages", "2", -EINVAL, NULL },
	{ "ksm/smart_scan", "0", 0, NULL },
	{ "ksm/smart_scan", "2", -EINVAL, NULL },
	{ "ksm/advisor_mode", "none", 0, "[none] scan-time" },
	{ "ksm/advisor_mode", "scan-time", 0, "none [scan-time]" },
	{ "ksm/advisor_mode", "fast", -EINVAL, NULL },
	{ "ksm/advisor_max_cpu", "4294967296", -EINVAL, NULL },
	{ "ksm/advisor_max_cpu", "50", 0, NULL },
	{ "ksm/advisor_target_scan_time", "10", 0, NULL },
	{ "ksm/max_idle_millisecs", "300", 0, NULL },
	{ "ksm/max_cpu_percent", "0", -EINVAL, NULL },
	{ "ksm/max_cpu_percent", "101", -EINVAL, NULL },
	{ "ksm/max_cpu_percent", "50", 0, NULL },
	{ "ksm/vma_budget_percent", "101", -EINVAL, NULL },
	{ "ksm/vma_budget_percent", "25", 0, NULL },
	{ "ksm/nothing", "1", -ENOENT, NULL },
	{ "ksm/pages_shared", "1", -EACCES, NULL },
	{ "help/ksm/run", "1", -EACCES, NULL },
	{ "ksm", "1", -EISDIR, NULL },
	{ "client/1/uid", "1", -ENOENT, NULL },
	{ "nothing", "1", -ENOENT, NULL },
};
#define NR_KNOB_CASES (int)(sizeof(knob_cases) / sizeof(knob_cases[0]))

START_TEST(knob_rules)
{
	struct daemon *d = daemon_start(NULL);
	char before[128], after[128];

	for (int i = 0; i < NR_KNOB_CASES; i++) {
		const char *path = knob_cases[i].path, *value = knob_cases[i].value;
		int had = ctl_get(d, path, before, sizeof(before));
		int ret = ctl_set(d, path, value);

		ck_assert_msg(ret == knob_cases[i].result, "set %s %s: %d", path, value, ret);
		if (had < 0)
			continue;
		ck_assert_int_ge(ctl_get(d, path, after, sizeof(after)), 0);
		if (ret == 0)
			ck_assert_str_eq(after, knob_cases[i].shown ? knob_cases[i].shown : value);
		else /* a refusal changes nothing */
			ck_assert_str_eq(after, before);
	}
	daemon_stop(d);
}
END_TEST

START_TEST(pages_to_scan_belongs_to_the_advisor)
{
	struct daemon *d = daemon_start(NULL);

	ck_assert_int_eq(ctl_set(d, "ksm/advisor_mode", "scan-time"), 0);
	ck_assert_int_eq(ctl_set(d, "ksm/pages_to_scan", "100"), -EINVAL);
	ck_assert_int_eq(ctl_set(d, "ksm/advisor_mode", "none"), 0);
	ck_assert_int_eq(ctl_set(d, "ksm/pages_to_scan", "100"), 0);
	daemon_stop(d);
}
END_TEST

START_TEST(fresh_daemon_is_useful_and_empty)
{
	struct daemon *d = daemon_start(NULL);

	ck_assert_uint_eq(ctl_get_u64(d, "ksm/run"), 1);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/sleep_millisecs"), 20);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/max_page_sharing"), 256);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/merge_across_nodes"), 1);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/pages_shared"), 0);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/full_scans"), 0);
	ck_assert_int_eq(ctl_get_s64(d, "ksm/general_profit"), 0);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/clients"), 0);
	daemon_stop(d);
}
END_TEST

/* ---- the tree ---- */

/* Every name that ls shows can be read or listed, below any directory. */
static void walk(struct daemon *d, const char *path, int *nr)
{
	char list[8192], value[1024], child[512], *save = NULL;

	ck_assert_int_ge(ctl_ls(d, path, list, sizeof(list)), 0);
	for (char *n = strtok_r(list, "\n", &save); n; n = strtok_r(NULL, "\n", &save)) {
		size_t len = strlen(n);

		snprintf(child, sizeof(child), "%s%s%s", path, *path ? "/" : "", n);
		if (n[len - 1] == '/') {
			child[strlen(child) - 1] = '\0';
			ck_assert_int_eq(ctl_get(d, child, value, sizeof(value)), -EISDIR);
			walk(d, child, nr);
			continue;
		}
		ck_assert_msg(ctl_get(d, child, value, sizeof(value)) >= 0, "get %s", child);
		ck_assert_int_eq(ctl_ls(d, child, value, sizeof(value)), -ENOTDIR);
		(*nr)++;
	}
}

START_TEST(whole_tree_can_be_read)
{
	struct daemon *d = daemon_start((const char *const[]){ "--topology", "emulated:4", NULL });
	char buf[4096];
	int nr = 0;

	walk(d, "", &nr);
	ck_assert_int_gt(nr, 100);
	ck_assert_int_ge(ctl_ls(d, "node", buf, sizeof(buf)), 0);
	ck_assert_str_eq(buf, "0/\n1/\n2/\n3/");
	ck_assert_uint_eq(ctl_get_u64(d, "node/1/frames_start"),
			  ctl_get_u64(d, "zone/0/frames_end"));
	ck_assert_int_ge(ctl_get(d, "daemon/topology", buf, sizeof(buf)), 0);
	ck_assert_str_eq(buf, "emulated:4");
	daemon_stop(d);
}
END_TEST

/* No name stands twice in `list`, which has one on each line. */
static void expect_names_differ(const char *path, const char *list)
{
	for (const char *n = list; n; n = strchr(n, '\n') ? strchr(n, '\n') + 1 : NULL) {
		size_t len = strcspn(n, "\n");

		for (const char *o = strchr(n, '\n'); o; o = strchr(o + 1, '\n'))
			ck_assert_msg(strcspn(o + 1, "\n") != len || memcmp(o + 1, n, len) != 0,
				      "ls %s: %.*s stands there twice", path, (int)len, n);
	}
}

/* Setting an attribute to its own value fails with EACCES exactly where the mode has no 'w'. */
static void expect_mode_holds(struct daemon *d, const char *path, const char *mode)
{
	char value[1024];
	int ret;

	ck_assert_int_ge(ctl_get(d, path, value, sizeof(value)), 0);
	ret = ctl_set(d, path, value);
	if (!strcmp(mode, "0644"))
		ck_assert_msg(ret == 0 || ret == -EINVAL, "set %s: %d", path, ret);
	else
		ck_assert_msg(!strcmp(mode, "0444") && ret == -EACCES, "%s %s", mode, path);
}

/* Below any directory, ls -l shows the names of ls in the same order, each behind its mode. */
static void walk_modes(struct daemon *d, const char *path, int *nr_settable)
{
	char list[8192], modes[16384], command[512], child[1024], *save = NULL, *save_modes = NULL;

	snprintf(command, sizeof(command), "-l %s", path);
	ck_assert_int_ge(ctl_ls(d, path, list, sizeof(list)), 0);
	ck_assert_int_ge(ctl_ls(d, command, modes, sizeof(modes)), 0);
	expect_names_differ(path, list);
	for (char *n = strtok_r(list, "\n", &save), *m = strtok_r(modes, "\n", &save_modes); n || m;
	     n = strtok_r(NULL, "\n", &save), m = strtok_r(NULL, "\n", &save_modes)) {
		ck_assert_msg(n && m && strlen(m) > 5 && m[4] == ' ' && !strcmp(m + 5, n),
			      "ls %s: %s, ls -l: %s", path, n, m);
		m[4] = '\0';
		snprintf(child, sizeof(child), "%s%s%s", path, *path ? "/" : "", n);
		*nr_settable += !strcmp(m, "0644");
		if (n[strlen(n) - 1] != '/') {
			expect_mode_holds(d, child, m);
			continue;
		}
		ck_assert_str_eq(m, "0555");
		child[strlen(child) - 1] = '\0';
		walk_modes(d, child, nr_settable);
	}
}

static uint64_t user_holds(struct daemon *d, const char *what)
{
	char path[64], buf[64];

	snprintf(path, sizeof(path), "user/%u/%s", (unsigned int)geteuid(), what);
	return ctl_get(d, path, buf, sizeof(buf)) < 0 ? 0 : strtoull(buf, NULL, 10);
}

START_TEST(users_are_there_while_they_hold_something)
{
	struct daemon *d = daemon_start(NULL);
	char list[64], want[64];
	int fds[2];

	ck_assert_int_eq(ctl_ls(d, "user", list, sizeof(list)), 0);
	for (int i = 0; i < 2; i++)
		fds[i] = harness_connect(d->dir, KSM_CLIENT_SOCKET, SOCK_SEQPACKET);
	wait_until(user_holds(d, "places") == 2, WAIT_MS, "two places are taken");
	ck_assert_uint_eq(user_holds(d, "unfinished"), 2);
	ck_assert_uint_ge(user_holds(d, "descriptors"), 2);
	ck_assert_uint_gt(user_holds(d, "bytes"), 0);
	ck_assert_uint_eq(user_holds(d, "domains"), 0);
	snprintf(want, sizeof(want), "%u/", (unsigned int)geteuid());
	ck_assert_int_gt(ctl_ls(d, "user", list, sizeof(list)), 0);
	ck_assert_str_eq(list, want);
	close(fds[0]);
	wait_until(user_holds(d, "places") == 1, WAIT_MS, "one place is free again");
	close(fds[1]);
	wait_until(ctl_ls(d, "user", list, sizeof(list)) == 0, WAIT_MS, "nobody holds anything");
	snprintf(want, sizeof(want), "user/%u/places", (unsigned int)geteuid());
	ck_assert_int_eq(ctl_get(d, want, list, sizeof(list)), -ENOENT);
	daemon_stop(d);
}
END_TEST

START_TEST(modes_say_what_can_be_set)
{
	struct daemon *d = daemon_start((const char *const[]){ "--topology", "emulated:2", NULL });
	char buf[1024];
	int nr = 0;

	walk_modes(d, "", &nr);
	ck_assert_int_eq(nr, 31 + 7 + 2 * 5); /* ksm/ and limit/; five for each node */
	ck_assert_int_eq(ctl_ls(d, "-l", buf, sizeof(buf)), ctl_ls(d, "-l ", buf, sizeof(buf)));
	ck_assert_int_eq(ctl_ls(d, "-l ksm/run", buf, sizeof(buf)), -ENOTDIR);
	ck_assert_int_eq(ctl_ls(d, "-l nothing", buf, sizeof(buf)), -ENOENT);
	ck_assert_int_eq(ctl_ls(d, "-l ksm client", buf, sizeof(buf)), -EINVAL);
	ck_assert_int_eq(ctl_ls(d, "-a ksm", buf, sizeof(buf)), -EINVAL);
	ck_assert_int_eq(ctl_ls(d, "-la", buf, sizeof(buf)), -ENOENT);
	daemon_stop(d);
}
END_TEST

START_TEST(paths_that_are_not_there)
{
	static const char *const paths[] = {
		"x",
		"ksm/x",
		"ksm//run",
		"/ksm/run",
		"/",
		"//",
		"ksm/run/x",
		"ksm/left_out/x",
		"node/1/os_node",
		"node/-1",
		"node/0x0",
		"node/+0",
		"client/0",
		"client/-1/uid",
		"client/99999999999999999999/uid",
		"domain/1/key",
		"help/x",
		"help/help",
		"../ksm/run",
		"ksm/../ksm/run",
		"KSM/run",
	};
	struct daemon *d = daemon_start(NULL);
	char buf[128], longest[600];

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		ck_assert_msg(ctl_get(d, paths[i], buf, sizeof(buf)) == -ENOENT, "%s", paths[i]);
	memset(longest, 'a', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	ck_assert_int_eq(ctl_get(d, longest, buf, sizeof(buf)), -ENOENT);
	daemon_stop(d);
}
END_TEST

/* ---- the protocol ---- */

START_TEST(many_commands_on_one_connection)
{
	struct daemon *d = daemon_start(NULL);
	int fd = raw_open(d);
	const char *all = "get ksm/run\nset ksm/run 0\nget ksm/run\nls ksm/nothing\n";

	raw_send(fd, all, strlen(all));
	expect_line(fd, "ok 2");
	expect_line(fd, "1");
	expect_line(fd, "ok 0");
	expect_line(fd, "ok 2");
	expect_line(fd, "0");
	expect_prefix(fd, "error ENOENT ");
	close(fd);
	daemon_stop(d);
}
END_TEST

START_TEST(split_writes)
{
	struct daemon *d = daemon_start(NULL);
	const char *line = "get ksm/run\n";
	int fd = raw_open(d);

	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < strlen(line); i++) {
			raw_send(fd, line + i, 1);
			expect_alive(d); /* it has had its turn, and half a line is no line */
			if (i + 1 < strlen(line))
				ck_assert(!readable(fd, 0));
		}
		expect_line(fd, "ok 2");
		expect_line(fd, "1");
	}
	close(fd);
	daemon_stop(d);
}
END_TEST

START_TEST(half_closed_peer_gets_its_answer)
{
	struct daemon *d = daemon_start(NULL);
	int fd = raw_open(d);

	raw_send(fd, "get ksm/run\nget ksm/ru", 22);
	shutdown(fd, SHUT_WR);
	expect_line(fd, "ok 2");
	expect_line(fd, "1");
	expect_end(fd); /* the half line is dropped */
	close(fd);
	daemon_stop(d);
}
END_TEST

/* A set of `run` while everything is being unmerged waits for that; what follows it waits, too. */
START_TEST(stores_that_wait_are_answered_in_order)
{
	struct daemon *d = daemon_start(NULL);
	const char *unmerge = "set ksm/run 2\n", *merge = "set ksm/run 1\nget ksm/run\n";
	int first = raw_open(d), later[8];

	for (int round = 0; round < 20; round++) {
		raw_send(first, unmerge, strlen(unmerge));
		for (int i = 0; i < 8; i++) {
			later[i] = raw_open(d);
			raw_send(later[i], merge, strlen(merge));
		}
		close(later[7]); /* whether it waits or not, nobody misses it */
		expect_line(first, "ok 0");
		for (int i = 0; i < 7; i++) {
			expect_line(later[i], "ok 0");
			expect_line(later[i], "ok 2");
			expect_line(later[i], "1");
			close(later[i]);
		}
	}
	close(first);
	daemon_stop(d);
}
END_TEST

static const struct {
	const char *data;
	size_t len;
	const char *answer;
} bad_lines[] = {
	{ "\n", 1, "error EINVAL " },
	{ "get\n", 4, "error EINVAL " },
	{ "get a b\n", 8, "error EINVAL " },
	{ "set ksm/run\n", 12, "error EINVAL " },
	{ "set\n", 4, "error EINVAL " },
	{ "GET ksm/run\n", 12, "error EINVAL " },
	{ "get ksm/run\0x\n", 14, "error EINVAL " },
	{ "\0\0\0\0\n", 5, "error EINVAL " },
	{ "get ksm/run\r\n", 13, "error EINVAL " },
	{ "get\tksm/run\n", 12, "error EINVAL " },
	{ "get ksm/\x1b[2J\n", 13, "error EINVAL " },
	{ "get \xff\xfe\n", 7, "error ENOENT " },
	{ "get  ksm/run\n", 13, "error EINVAL " },
};
#define NR_BAD_LINES (int)(sizeof(bad_lines) / sizeof(bad_lines[0]))

START_TEST(bad_lines_get_an_error_and_the_next_is_served)
{
	struct daemon *d = daemon_start(NULL);
	int fd = raw_open(d);

	for (int i = 0; i < NR_BAD_LINES; i++) {
		raw_send(fd, bad_lines[i].data, bad_lines[i].len);
		expect_prefix(fd, bad_lines[i].answer);
		raw_send(fd, "get ksm/run\n", 12);
		expect_line(fd, "ok 2");
		expect_line(fd, "1");
	}
	close(fd);
	daemon_stop(d);
}
END_TEST

START_TEST(line_length_limit)
{
	struct daemon *d = daemon_start(NULL);
	char line[5000];
	int fd = raw_open(d);

	/* 4096 bytes with the newline: still a line. */
	memset(line, 'a', sizeof(line));
	memcpy(line, "get ", 4); /* NOLINT(bugprone-not-null-terminated-result) */
	line[4095] = '\n';
	raw_send(fd, line, 4096);
	expect_prefix(fd, "error ENOENT ");
	/* One more is not. */
	line[4095] = 'a';
	line[4096] = '\n';
	raw_send(fd, line, 4097);
	expect_prefix(fd, "error E2BIG ");
	expect_end(fd);
	close(fd);
	expect_alive(d);
	daemon_stop(d);
}
END_TEST

START_TEST(megabytes_without_newline)
{
	struct daemon *d = daemon_start(NULL);
	uint64_t rss = ctl_get_u64(d, "daemon/rss_bytes");
	int nr_fds = harness_nr_fds(d->pid);
	static char block[65536];
	int fd = raw_open(d);

	memset(block, 'x', sizeof(block));
	for (size_t sent = 0; sent < 10 * 1048576;) {
		ssize_t n = send(fd, block, sizeof(block), MSG_NOSIGNAL);

		if (n < 0)
			break; /* hung up on, as it should be */
		sent += (size_t)n;
	}
	expect_prefix(fd, "error E2BIG ");
	expect_end(fd);
	close(fd);
	expect_alive(d);
	ck_assert_uint_lt(ctl_get_u64(d, "daemon/rss_bytes"), rss + 4 * 1048576);
	wait_until(harness_nr_fds(d->pid) <= nr_fds, WAIT_MS, "descriptors are closed");
	daemon_stop(d);
}
END_TEST

/* The daemon must not collect answers for a peer that sends commands and reads nothing. */
START_TEST(answers_that_nobody_reads)
{
	struct daemon *d = daemon_start(NULL);
	uint64_t rss = ctl_get_u64(d, "daemon/rss_bytes");
	static char block[65536];
	int fd = raw_open(d);

	for (size_t i = 0; i < sizeof(block); i += 8)
		memcpy(block + i, "ls ksm/\n", 8);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	for (int i = 0; i < 2000; i++) {
		if (send(fd, block, sizeof(block), MSG_NOSIGNAL) < 0 && i % 100 == 0)
			expect_alive(d);
	}
	ck_assert_uint_lt(ctl_get_u64(d, "daemon/rss_bytes"), rss + 4 * 1048576);
	close(fd);
	expect_alive(d);
	daemon_stop(d);
}
END_TEST

#define NR_IDLE 1000

START_TEST(thousand_idle_connections)
{
	struct daemon *d = daemon_start(NULL);
	int nr_fds = harness_nr_fds(d->pid), fds[NR_IDLE], nr = 0;

	for (int i = 0; i < NR_IDLE; i++) {
		int fd = harness_connect(d->dir, KSM_CONTROL_SOCKET, SOCK_STREAM);

		ck_assert_int_ge(fd, 0);
		fds[nr++] = fd;
		if (i % 50 == 0)
			expect_alive(d);
	}
	expect_alive(d);
	/* The first has given way, with a reason; the last is served. */
	expect_prefix(fds[0], "error EMFILE ");
	raw_send(fds[nr - 1], "get ksm/run\n", 12);
	expect_line(fds[nr - 1], "ok 2");
	/* The closer's threads close them, in their own time. */
	wait_until(harness_nr_fds(d->pid) <= nr_fds + 64, WAIT_MS, "those that gave way are gone");
	for (int i = 0; i < nr; i++)
		close(fds[i]);
	wait_until(harness_nr_fds(d->pid) <= nr_fds, WAIT_MS, "descriptors are closed");
	daemon_stop(d);
}
END_TEST

/* ---- who may set ---- */

static int as_nobody(struct daemon *d)
{
	char buf[64];
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (setgid(65534) || setuid(65534))
			_exit(9);
		if (ctl_get(d, "ksm/run", buf, sizeof(buf)) < 0)
			_exit(1);
		if (ctl_ls(d, "ksm", buf, sizeof(buf)) < 0)
			_exit(2);
		_exit(ctl_set(d, "ksm/run", "0") == -EACCES ? 0 : 3);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return WEXITSTATUS(status);
}

START_TEST(others_may_look_but_not_set)
{
	struct daemon *d;

	if (geteuid() != 0) {
		printf("SKIP: needs root to become another user\n");
		return;
	}
	d = daemon_start(NULL);
	ck_assert_int_eq(as_nobody(d), 0);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/run"), 1);
	daemon_stop(d);
}
END_TEST

/* ---- ksmdctl ---- */

/* Run the program with arguments from a shell's line. Returns its exit code, its output in buf. */
static int ksmdctl(const char *args, char *buf, size_t size)
{
	char line[8192];
	FILE *f;
	int status;

	snprintf(line, sizeof(line), "exec \"${KSM_BUILD:-build}/ksmdctl\" %s 2>&1", args);
	f = popen(line, "r"); /* NOLINT(cert-env33-c) */
	ck_assert_ptr_nonnull(f);
	buf[fread(buf, 1, size - 1, f)] = '\0';
	status = pclose(f);
	ck_assert_msg(WIFEXITED(status), "ksmdctl %s: status %d", args, status);
	return WEXITSTATUS(status);
}

static void expect_ksmdctl(const char *args, int code, const char *want)
{
	char buf[32768];

	ck_assert_int_eq(ksmdctl(args, buf, sizeof(buf)), code);
	ck_assert_msg(strstr(buf, want), "ksmdctl %s: %s", args, buf);
}

/*
 * The daemon hangs up on a line that is too long, and the answer that it gave before is not lost.
 * Seen to fail ("the daemon ended the connection", 3) when the newline is sent by itself.
 */
static void expect_too_long(void)
{
	char args[6000], buf[512];

	memset(args, 'a', sizeof(args));
	memcpy(args, "get ", 4); /* NOLINT(bugprone-not-null-terminated-result) */
	args[sizeof(args) - 1] = '\0';
	for (int i = 0; i < 20; i++) {
		ck_assert_int_eq(ksmdctl(args, buf, sizeof(buf)), 1);
		ck_assert_str_eq(buf, "ksmdctl: E2BIG: a line has at most 4095 characters\n");
	}
}

START_TEST(ksmdctl_says_what_the_daemon_says)
{
	struct daemon *d = daemon_start(NULL);

	expect_ksmdctl("get ksm/run", 0, "1\n");
	expect_ksmdctl("--json get ksm/run", 0, "{\"ksm/run\": 1}\n");
	expect_ksmdctl("--json get daemon/topology", 0, "{\"daemon/topology\": \"auto\"}\n");
	expect_ksmdctl("set ksm/run 0", 0, "");
	expect_ksmdctl("get ksm/run", 0, "0\n");
	expect_ksmdctl("ls ksm", 0, "run\npages_to_scan\n");
	expect_ksmdctl("--json ls node", 0, "[\"0/\"");
	expect_ksmdctl("ls -l ksm", 0, "0644 run\n0644 pages_to_scan\n");
	expect_ksmdctl("-l ls ksm", 0, "0444 pages_shared\n");
	expect_ksmdctl("ls -l", 0, "0555 ksm/\n");
	expect_ksmdctl("--json ls -l ksm", 0, "[{\"name\": \"run\", \"mode\": \"0644\"}, {");
	expect_ksmdctl("--json ls -l ksm", 0, "{\"name\": \"left_out/\", \"mode\": \"0555\"}");
	expect_ksmdctl("status", 0, "left out  nothing\nclients   0\n");
	expect_ksmdctl("--json status", 0, "\"clients\": []");
	expect_ksmdctl("--delay 0.01 --count 2 top </dev/null", 0, "ksmd-user ");
	expect_ksmdctl("get nothing", 1, "ksmdctl: ENOENT: ");
	expect_ksmdctl("set ksm/pages_shared 1", 1, "ksmdctl: EACCES: ");
	expect_too_long();
	daemon_stop(d);
	expect_ksmdctl("--runtime-dir /nonexistent get ksm/run", 3, "ksmdctl: no daemon at ");
}
END_TEST

static const char *const bad_usage[] = {
	"",           "get",  "get a b",        "set a",    "ls a b",
	"status now", "what", "-l get ksm/run", "-n 0 top", "-d 0 top",
};
#define NR_BAD_USAGE (int)(sizeof(bad_usage) / sizeof(bad_usage[0]))

START_TEST(ksmdctl_used_wrongly)
{
	expect_ksmdctl(bad_usage[_i], 2, "see ksmdctl --help");
}
END_TEST

/* ---- start and end ---- */

static bool exists(struct daemon *d, const char *name)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", d->dir, name);
	return access(path, F_OK) == 0;
}

START_TEST(second_daemon_is_refused)
{
	struct daemon *d = daemon_start(NULL);
	char err[1024], pid[32];

	ck_assert_int_eq(daemon_expect_exit(d->dir, NULL, err, sizeof(err)), 1);
	snprintf(pid, sizeof(pid), "process %d\n", (int)d->pid);
	ck_assert_msg(strstr(err, "already running") && strstr(err, pid), "%s", err);
	ck_assert_msg(strchr(err, '\n') == err + strlen(err) - 1, "more than one line: %s", err);
	expect_alive(d); /* and its sockets were left alone */
	daemon_stop(d);
}
END_TEST

/* Texts of a lock file that another process holds, and what is said of them. */
static const char *const lock_texts[][2] = {
	{ "\033[2Jgone\n", "process unknown\n" },
	{ "4711\033[31m\n", "process 4711\n" },
	{ "47114711471147114711\n", "process 4711471147\n" },
	{ "", "process unknown\n" },
};

/* Seen to fail (escape sequences arrive) when the text is logged up to the end of its line. */
START_TEST(text_of_the_lock_file_is_not_trusted)
{
	char dir[] = "/tmp/ksmd-test.XXXXXX", path[64], err[1024];
	const char *text = lock_texts[_i][0];
	int fd;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/lock", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	ck_assert_int_eq(flock(fd, LOCK_EX), 0);
	ck_assert_int_eq(daemon_expect_exit(dir, NULL, err, sizeof(err)), 1);
	ck_assert_ptr_null(strchr(err, '\033'));
	ck_assert_msg(strstr(err, lock_texts[_i][1]), "%s", err);
	close(fd);
	unlink(path);
	rmdir(dir);
}
END_TEST

START_TEST(stale_directory_is_taken_over)
{
	struct daemon *d = daemon_start(NULL);
	pid_t old = d->pid;

	daemon_kill(d);
	ck_assert(exists(d, KSM_CLIENT_SOCKET) && exists(d, KSM_CONTROL_SOCKET));
	daemon_restart(d, NULL);
	ck_assert_int_ne(d->pid, old);
	expect_alive(d);
	daemon_stop(d);
}
END_TEST

START_TEST(signal_removes_sockets)
{
	int sig = _i ? SIGINT : SIGTERM, status;
	struct daemon *d = daemon_start(NULL);
	int fd = raw_open(d); /* a connection must not hold up the end */

	ck_assert(exists(d, KSM_CLIENT_SOCKET) && exists(d, KSM_CONTROL_SOCKET));
	kill(d->pid, sig);
	ck_assert_int_eq(waitpid(d->pid, &status, 0), d->pid);
	ck_assert_int_eq(status, 0);
	d->pid = 0;
	ck_assert(!exists(d, KSM_CLIENT_SOCKET) && !exists(d, KSM_CONTROL_SOCKET));
	close(fd);
	daemon_stop(d);
}
END_TEST

START_TEST(modes_of_the_runtime_directory)
{
	char parent[] = "/tmp/ksmd-test.XXXXXX", dir[64], path[128];
	struct stat st;
	struct daemon *d;

	ck_assert_ptr_nonnull(mkdtemp(parent));
	snprintf(dir, sizeof(dir), "%s/run", parent);
	d = daemon_start_in(dir, NULL);
	ck_assert_int_eq(stat(dir, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, geteuid() ? 0700 : 0755);
	snprintf(path, sizeof(path), "%s/" KSM_CLIENT_SOCKET, dir);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, geteuid() ? 0600 : 0666);
	daemon_stop(d);
	snprintf(path, sizeof(path), "%s/lock", dir);
	unlink(path);
	rmdir(dir);
	rmdir(parent);
}
END_TEST

static const char *const bad_args[][3] = {
	{ "--topology", "emulated:0" },
	{ "--topology", "emulated:65" },
	{ "--topology", "emulated:-1" },
	{ "--topology", "some" },
	{ "--topology", "emulated:2," },
	{ "--topology", "emulated:2,10:20" },
	{ "--topology", "emulated:2,10:20,20:10,20:10" },
	{ "--topology", "emulated:2,10:20:30,20:10:30" },
	{ "--topology", "emulated:2,10,20" },
	{ "--topology", "emulated:2,11:20,20:10" },
	{ "--topology", "emulated:2,10:10,20:10" },
	{ "--topology", "emulated:2,10:255,20:10" },
	{ "--topology", "emulated:2,10:-20,20:10" },
	{ "--topology", "emulated:2,10:20,20:10,moves," },
	{ "--topology", "emulated:2,move" },
	{ "--domain", "all" },
	{ "--arena-limit", "-1" },
	{ "--arena-limit", "1G" },
	{ "--arena-limit", "99999999999999999999" },
	{ "--zone-span", "-1" },
	{ "--zone-span", "1G" },
	{ "--guard-frames=1" },
	{ "--guard-frames", "1" },
	{ "--log-level", "loud" },
	{ "--what" },
	{ "argument" },
};
#define NR_BAD_ARGS (int)(sizeof(bad_args) / sizeof(bad_args[0]))

START_TEST(bad_arguments)
{
	char err[1024];

	ck_assert_int_eq(daemon_expect_exit("/nonexistent", bad_args[_i], err, sizeof(err)), 2);
	ck_assert_str_ne(err, "");
}
END_TEST

START_TEST(directory_that_cannot_be_made)
{
	char err[1024];

	ck_assert_int_eq(daemon_expect_exit("/nonexistent/dir", NULL, err, sizeof(err)), 1);
	ck_assert_ptr_nonnull(strstr(err, "/nonexistent/dir"));
	ck_assert_int_eq(daemon_expect_exit("/proc/version", NULL, err, sizeof(err)), 1);
}
END_TEST

static Suite *control_suite(void)
{
	Suite *s = suite_create("control");
	TCase *tc = tcase_create("control");

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, knob_rules);
	tcase_add_test(tc, pages_to_scan_belongs_to_the_advisor);
	tcase_add_test(tc, fresh_daemon_is_useful_and_empty);
	tcase_add_test(tc, whole_tree_can_be_read);
	tcase_add_test(tc, users_are_there_while_they_hold_something);
	tcase_add_test(tc, modes_say_what_can_be_set);
	tcase_add_test(tc, paths_that_are_not_there);
	tcase_add_test(tc, many_commands_on_one_connection);
	tcase_add_test(tc, split_writes);
	tcase_add_test(tc, half_closed_peer_gets_its_answer);
	tcase_add_test(tc, stores_that_wait_are_answered_in_order);
	tcase_add_test(tc, bad_lines_get_an_error_and_the_next_is_served);
	tcase_add_test(tc, line_length_limit);
	tcase_add_test(tc, megabytes_without_newline);
	tcase_add_test(tc, answers_that_nobody_reads);
	tcase_add_test(tc, thousand_idle_connections);
	tcase_add_test(tc, others_may_look_but_not_set);
	tcase_add_test(tc, ksmdctl_says_what_the_daemon_says);
	tcase_add_loop_test(tc, ksmdctl_used_wrongly, 0, NR_BAD_USAGE);
	tcase_add_test(tc, second_daemon_is_refused);
	tcase_add_loop_test(tc, text_of_the_lock_file_is_not_trusted, 0, 4);
	tcase_add_test(tc, stale_directory_is_taken_over);
	tcase_add_loop_test(tc, signal_removes_sockets, 0, 2);
	tcase_add_test(tc, modes_of_the_runtime_directory);
	tcase_add_loop_test(tc, bad_arguments, 0, NR_BAD_ARGS);
	tcase_add_test(tc, directory_that_cannot_be_made);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	SRunner *sr = srunner_create(control_suite());
	int failed;

	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
