/* SPDX-License-Identifier: MIT */
/*
 * report.c - the program that makes tables and plots of results.
 *
 * The program is a folder of Python, tools/bench/report, run as `python3 FOLDER`. ksm-bench
 * measures and writes JSON; everything that only reads JSON is in that folder. -I keeps the
 * environment and the user's own packages out of a program that root may run. -B leaves no compiled
 * files behind.
 */
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "file.h"
#include "message.h"
#include "result.h"

enum { MAX_ARGS = 4096 };

int report_exec(char *const args[])
{
	/* In the build folder, and where `make install` puts it. */
	static const char *const where[] = { "ksm-bench-report",
					     "../share/ksmd-user/ksm-bench-report" };
	static char python[] = "python3", alone[] = "-IB", *argv[MAX_ARGS] = { python, alone };
	char path[600];
	int n = 2, err = file_of_project("KSM_BENCH_REPORT", where, 2, path, sizeof(path));

	if (err)
		return err;
	argv[n++] = path;
	for (int i = 1; args[i]; i++) {
		if (n == MAX_ARGS - 1) {
			complain("report: too many files");
			return -E2BIG;
		}
		argv[n++] = args[i];
	}
	argv[n] = NULL;
	execvp(argv[0], argv);
	err = -errno;
	complain("cannot run python3, which makes the tables: %s", strerror(-err));
	return err;
}

/* In a child that reads from `in`. It ignores Ctrl-C: the parent then reports what it has. */
static void child_exec(int in)
{
	char name[] = "report", figures[] = "--figures", *const args[] = { name, figures, NULL };

	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	dup2(in, 0);
	report_exec(args);
	_exit(127);
}

/* Returns whether all of it was printed. */
static bool print_tables(const struct bench_result *r)
{
	int fd[2], status = -1;
	pid_t pid;
	FILE *f;

	if (pipe2(fd, O_CLOEXEC))
		return false;
	pid = fork();
	if (!pid)
		child_exec(fd[0]);
	close(fd[0]);
	f = fdopen(fd[1], "w");
	if (f && pid > 0)
		result_json(f, r);
	if (f)
		fclose(f);
	else
		close(fd[1]);
	if (pid < 0)
		return false;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status == 0;
}

void report_print(const struct bench_result *r)
{
	fflush(stdout);
	if (!print_tables(r))
		result_json(stdout, r);
	fflush(stdout);
}
