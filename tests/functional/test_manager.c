/* SPDX-License-Identifier: MIT */
/*
 * test_manager.c - the daemon under a service manager: readiness, watchdog, passed sockets.
 *
 * The test plays the manager: it listens at $NOTIFY_SOCKET, and passes sockets as sd_listen_fds(3)
 * describes. It stops single threads of the daemon with ptrace(2).
 */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/fake_client.h"
#include "tests/lib/harness.h"

#define WATCHDOG_MS 400
#define FIRST_FD 3 /* SD_LISTEN_FDS_START of sd-daemon.h */

static char dir[] = "/tmp/ksmd-test.XXXXXX";
static int notify = -1;

static int listen_at(const char *name, int type)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	ck_assert_int_ge(fd, 0);
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/%s", dir, name);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	if (type != SOCK_DGRAM)
		ck_assert_int_eq(listen(fd, 16), 0);
	return fd;
}

static void setup(void)
{
	char path[64], usec[16];

	ck_assert_ptr_nonnull(mkdtemp(dir));
	notify = listen_at("notify", SOCK_DGRAM);
	snprintf(path, sizeof(path), "%s/notify", dir);
	snprintf(usec, sizeof(usec), "%d", WATCHDOG_MS * 1000);
	setenv("NOTIFY_SOCKET", path, 1);
	setenv("WATCHDOG_USEC", usec, 1);
}

/* The next message within that time; false: there was none. */
static bool hear(char *text, size_t size, int ms)
{
	struct pollfd p = { notify, POLLIN, 0 };
	ssize_t n = poll(&p, 1, ms) > 0 ? recv(notify, text, size - 1, 0) : -1;

	text[n > 0 ? n : 0] = '\0';
	return n > 0;
}

static void expect_word(const char *word)
{
	char text[256];

	do
		ck_assert_msg(hear(text, sizeof(text), WAIT_MS), "%s is not said", word);
	while (!strstr(text, word));
}

static pid_t thread_named(pid_t pid, const char *name)
{
	char path[300], comm[32] = "";
	pid_t tid = 0;
	struct dirent *de;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	tasks = opendir(path);
	ck_assert_ptr_nonnull(tasks);
	while (!tid && (de = readdir(tasks))) {
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%d/task/%.20s/comm", (int)pid, de->d_name);
		f = fopen(path, "re");
		if (f && fgets(comm, sizeof(comm), f) && !strncmp(comm, name, strlen(name)))
			tid = (pid_t)atoi(de->d_name);
		if (f)
			fclose(f);
	}
	closedir(tasks);
	ck_assert_int_ne(tid, 0);
	return tid;
}

/*
 * Seen to fail (the daemon is said to be well for ever) when the main thread tells the manager
 * without asking the others.
 */
START_TEST(watchdog_sees_a_blocked_thread)
{
	static const char *const name[] = { "ksmd-client", "ksmd-scan" };
	struct daemon *d = daemon_start_in(dir, NULL);
	char text[256];
	pid_t tid;

	expect_word("READY=1");
	for (int i = 0; i < 3; i++)
		expect_word("WATCHDOG=1");
	tid = thread_named(d->pid, name[_i]);
	ck_assert_int_eq(ptrace(PTRACE_SEIZE, tid, 0, 0), 0);
	ck_assert_int_eq(ptrace(PTRACE_INTERRUPT, tid, 0, 0), 0);
	ck_assert_int_eq(waitpid(tid, NULL, __WALL), tid);
	/* An answer may have been counted already. */
	hear(text, sizeof(text), WATCHDOG_MS);
	hear(text, sizeof(text), WATCHDOG_MS);
	ck_assert_msg(!hear(text, sizeof(text), 4 * WATCHDOG_MS), "blocked, and said: %s", text);
	ck_assert_int_eq(ptrace(PTRACE_DETACH, tid, 0, 0), 0);
	expect_word("WATCHDOG=1");
	daemon_stop(d);
	expect_word("STOPPING=1");
}
END_TEST

/*
 * A client can make the threads that look at its memory wait for as long as it likes; the end does
 * not. Seen to fail (no end) with scan_stop(), or looker_stop(), joining the thread however long
 * that takes.
 */
START_TEST(ends_without_a_blocked_thread)
{
	static const char *const names[] = { "ksmd-scan", "ksmd-look" };
	struct daemon *d = daemon_start_in(dir, NULL);
	uint64_t begin;
	pid_t tid;

	expect_word("READY=1");
	ctl_get_u64(d, "ksm/ksm_zero_pages"); /* the second comes when somebody asks */
	tid = thread_named(d->pid, names[_i]);
	ck_assert_int_eq(ptrace(PTRACE_SEIZE, tid, 0, 0), 0);
	ck_assert_int_eq(ptrace(PTRACE_INTERRUPT, tid, 0, 0), 0);
	ck_assert_int_eq(waitpid(tid, NULL, __WALL), tid);
	begin = harness_now_ms();
	kill(d->pid, SIGTERM);
	ck_assert_int_eq(waitpid(tid, NULL, __WALL), tid); /* it ends with the process */
	daemon_stop(d);
	ck_assert_uint_lt(harness_now_ms() - begin, 10000); /* 1,000 are promised */
}
END_TEST

/* ---- sockets ---- */

/* A daemon that is passed these descriptors, in that order. */
static pid_t start_with(const int *fds, int nr, const char *names)
{
	pid_t pid = fork();
	char text[16];

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 0; i < nr; i++)
		if (dup2(fds[i], 100 + i) < 0)
			_exit(98);
	for (int i = 0; i < nr; i++)
		if (dup2(100 + i, FIRST_FD + i) < 0 || close(100 + i))
			_exit(98);
	snprintf(text, sizeof(text), "%d", (int)getpid());
	setenv("LISTEN_PID", text, 1);
	snprintf(text, sizeof(text), "%d", nr);
	setenv("LISTEN_FDS", text, 1);
	if (names)
		setenv("LISTEN_FDNAMES", names, 1);
	execl(build_path("ksmd-user"), "ksmd-user", "--runtime-dir", dir, NULL);
	_exit(99);
}

START_TEST(passed_sockets_are_served)
{
	int fds[] = { listen_at(KSM_CLIENT_SOCKET, SOCK_SEQPACKET),
		      listen_at(KSM_CONTROL_SOCKET, SOCK_STREAM) };
	int turned[] = { fds[1], fds[0] }, status;
	struct daemon d = { .own_dir = false };
	struct stat st;
	char path[64];
	struct fake f;

	snprintf(d.dir, sizeof(d.dir), "%s", dir);
	d.pid = _i ? start_with(turned, 2, NULL) : start_with(fds, 2, "client:control");
	expect_word("READY=1");
	ck_assert_uint_eq(ctl_get_u64(&d, "ksm/run"), 1);
	fake_ready(&d, &f);
	expect_served(&f);
	fake_close(&f);
	ck_assert_int_eq(kill(d.pid, SIGTERM), 0);
	ck_assert_int_eq(waitpid(d.pid, &status, 0), d.pid);
	ck_assert_int_eq(status, 0);
	/* They are the manager's, who listens on. */
	snprintf(path, sizeof(path), "%s/%s", dir, KSM_CLIENT_SOCKET);
	ck_assert_int_eq(stat(path, &st), 0);
	snprintf(path, sizeof(path), "%s/%s", dir, KSM_CONTROL_SOCKET);
	ck_assert_int_eq(stat(path, &st), 0);
}
END_TEST

/* One alone, two of a kind, one that does not listen, and something that is no socket. */
START_TEST(strange_sockets_are_refused)
{
	int client = listen_at(KSM_CLIENT_SOCKET, SOCK_SEQPACKET), pair[2], pipes[2];
	int control = listen_at(KSM_CONTROL_SOCKET, SOCK_STREAM), status;
	int more = listen_at("more", SOCK_STREAM);

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	ck_assert_int_eq(pipe(pipes), 0);
	{
		const int sets[][3] = { { client, client, client },
					{ control, more, control },
					{ pair[0], control, control },
					{ pipes[0], client, control } };
		const int nr[] = { 1, 2, 2, 3 };
		pid_t pid = start_with(sets[_i], nr[_i], NULL);

		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	}
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("manager");
	TCase *t = tcase_create("manager");
	SRunner *sr;
	int failed;

	tcase_set_timeout(t, 180);
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_loop_test(t, watchdog_sees_a_blocked_thread, 0, 2);
	tcase_add_loop_test(t, ends_without_a_blocked_thread, 0, 2);
	tcase_add_loop_test(t, passed_sockets_are_served, 0, 2);
	tcase_add_loop_test(t, strange_sockets_are_refused, 0, 4);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
