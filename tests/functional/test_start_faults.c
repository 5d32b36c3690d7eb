/* SPDX-License-Identifier: MIT */
/*
 * test_start_faults.c - each system call of the daemon's start fails once, from the first look at
 * the kernel to the moment at which it serves.
 *
 * Then the daemon either serves all the same, or ends with exit code 1, prints one line that names
 * the error, and leaves no socket behind. The next start succeeds.
 *
 * Seen to fail: the daemon said "No such file or directory" for a socket that it could not make,
 * named another daemon when the lock call failed, and another owner when it could not examine the
 * directory.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/harness.h"
#include "tests/lib/trace.h"
#include "wire/wire.h"

static char dir[] = "/tmp/ksmd-start.XXXXXX";

static bool opens(const struct trace *t, const char *path)
{
	char buf[64] = "";
	struct iovec to = { buf, sizeof(buf) - 1 }, from = { (void *)t->a[1], sizeof(buf) - 1 };

	return t->nr == SYS_openat && process_vm_readv(t->tid, &to, 1, &from, 1, 0) > 0 &&
	       !strcmp(buf, path);
}

/* It waits for events: the start is over. */
static bool serves(const struct trace *t)
{
	return t->entry && t->tid == t->pid &&
	       (t->nr == SYS_epoll_pwait
#ifdef SYS_epoll_wait
		|| t->nr == SYS_epoll_wait
#endif
	       );
}

static enum trace_event go_on(struct trace *t)
{
	enum trace_event e = trace_next(t, WAIT_MS);

	if (e == TRACE_QUIET)
		harness_die("the daemon hangs at its start");
	return e;
}

static void look_at_the_end(const struct trace *t, int err, int out)
{
	char text[4096], path[128];
	ssize_t n = pread(out, text, sizeof(text) - 1, 0);
	char *line;

	text[n > 0 ? n : 0] = '\0';
	/* liburcu aborts when it cannot start its own thread. The next start clears up. */
	if (WIFSIGNALED(t->status) && WTERMSIG(t->status) == SIGABRT && strstr(text, "urcu"))
		return;
	ck_assert_msg(WIFEXITED(t->status) && WEXITSTATUS(t->status) == 1, "status %#x: %s",
		      (unsigned)t->status, text);
	line = strchr(text, '\n');
	ck_assert_msg(line && !line[1], "not one line: %s", text);
	ck_assert_msg(strstr(text, strerror(err)) || strstr(text, strerror(EAGAIN)),
		      "%s is not named: %s", strerrorname_np(err), text);
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir,
			 i ? KSM_CONTROL_SOCKET : KSM_CLIENT_SOCKET);
		ck_assert_msg(access(path, F_OK), "%s is left behind: %s", path, text);
	}
}

/* Start with the nth call failing. False: there is no such call. */
static bool start_with_fault(int *n, int err, int *ended)
{
	const char *const argv[] = { build_path("ksmd-user"), "--runtime-dir", dir,
				     "--log-level",           "error",         NULL };
	char name[] = "/tmp/ksmd-start-err.XXXXXX";
	int out = mkstemp(name), at = 0;
	bool begun = false, failed = false;
	struct trace t;
	enum trace_event e;

	unlink(name);
	trace_exec(&t, argv, out);
	while ((e = go_on(&t)) == TRACE_STOP && !serves(&t)) {
		begun |= t.entry && opens(&t, "/proc/self/pagemap");
		if (!begun || failed || !t.entry || !trace_may_fail(&t, err) || ++at < *n)
			continue;
		if (getenv("KSM_TEST_VERBOSE"))
			printf("at %d, call %ld: %s\n", at, t.nr, strerrorname_np(err));
		trace_fail(&t, err);
		failed = true;
	}
	if (e == TRACE_GONE && failed) {
		look_at_the_end(&t, err, out);
		++*ended;
	} else {
		ck_assert_int_eq(e, TRACE_STOP);
		kill(t.pid, SIGKILL);
		while (go_on(&t) == TRACE_STOP)
			;
	}
	close(out);
	return failed;
}

START_TEST(each_call_of_the_start_fails)
{
	static const int errors[] = { EMFILE, ENOMEM };
	int err = errors[_i], ended = 0, n = 1;
	struct daemon *d;
	char path[64];

	ck_assert_ptr_nonnull(mkdtemp(dir));
	for (; start_with_fault(&n, err, &ended); n++) {
		d = daemon_start_in(dir, NULL);
		daemon_stop(d);
	}
	printf("%s: %d calls, %d ended the start\n", strerrorname_np(err), n - 1, ended);
	ck_assert_int_gt(ended, 4);
	daemon_stop(daemon_start_in(dir, NULL)); /* the last one was killed */
	snprintf(path, sizeof(path), "%s/lock", dir);
	unlink(path);
	ck_assert_int_eq(rmdir(dir), 0); /* nothing else is there */
}
END_TEST

int main(void)
{
	Suite *s = suite_create("start_faults");
	TCase *t = tcase_create("start_faults");
	SRunner *sr;
	int failed;

	if (!trace_possible())
		return 0;
	suite_add_tcase(s, t);
	tcase_set_timeout(t, 180);
	tcase_add_loop_test(t, each_call_of_the_start_fails, 0, 2);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
