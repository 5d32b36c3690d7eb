/* SPDX-License-Identifier: MIT */
/*
 * python.c - the program that decides what is measured, and reports it.
 *
 * The program is a folder of Python, tools/bench/python, run as `python3 FOLDER`. It reads the
 * command line, chooses workloads and rounds, and writes JSON, tables and plots. This process
 * measures what it asks for. -I keeps the environment and the user's own packages out of a program
 * that root may run. -B leaves no compiled files behind.
 *
 * It is a child, not the parent, because the kernel's knobs depend on this process: whoever kills
 * `ksm-bench` must hit the one that the watchdog of kernel.c looks at.
 */
#include "python.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "file.h"
#include "message.h"

enum { MAX_ARGS = 4096 };

void python_exec(char *const args[])
{
	/* In the build folder, and where `make install` puts it. */
	static const char *const where[] = { "ksm-bench-python",
					     "../share/ksmd-user/ksm-bench-python" };
	static char python[] = "python3", alone[] = "-IB", *argv[MAX_ARGS] = { python, alone };
	char path[600];
	int n = 2;

	if (file_of_project("KSM_BENCH_PYTHON", where, 2, path, sizeof(path)))
		return;
	argv[n++] = path;
	for (int i = 1; args[i]; i++) {
		if (n == MAX_ARGS - 1) {
			complain("report: too many files");
			return;
		}
		argv[n++] = args[i];
	}
	argv[n] = NULL;
	execvp(argv[0], argv);
	complain("cannot run python3, which decides what is measured: %s", strerror(errno));
}

pid_t python_start(char *const args[], int *fd)
{
	int sv[2];
	pid_t pid = -1;

	if (!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv)) {
		pid = fork();
		if (!pid) {
			signal(SIGINT, SIG_IGN);
			signal(SIGTERM, SIG_IGN);
			signal(SIGHUP, SIG_IGN);
			dup2(sv[1], 0);
			python_exec(args);
			_exit(1);
		}
		close(sv[1]);
		*fd = sv[0];
	}
	if (pid < 0)
		complain("cannot start python3: %s", strerror(errno));
	return pid;
}
