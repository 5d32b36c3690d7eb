/* SPDX-License-Identifier: MIT */
/*
 * ksm-bench - measure page deduplication: main().
 *
 * `ksm-bench kernel` runs workloads on the kernel's KSM and on ksmd-user in turn. A program in
 * Python (python.c) reads the command line and decides what is measured; this one measures.
 * It changes knobs that are the machine's. So a lock keeps any other ksm-bench away, signals only
 * set a flag, and this file puts the knobs back at the end. kernel.c says what happens on SIGKILL.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "costs.h"
#include "drain.h"
#include "frames.h"
#include "kernel.h"
#include "lock.h"
#include "node_tenant.h"
#include "python.h"
#include "requests.h"
#include "stop.h"
#include "tenant.h"

/* Measure what the Python program asks for. Its exit status is ours. */
static int measure_main(char *const args[])
{
	int fd, status = 0;
	pid_t pid;

	stop_catch_signals();
	pid = python_start(args, &fd);
	if (pid < 0)
		return EXIT_FAILURE;
	requests_serve(fd);
	kernel_knobs_restore();
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (bench_stop)
		return 128 + bench_stop;
	return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
}

static int pool_main(void)
{
	int err;

	stop_catch_signals();
	err = frames_print();
	err = err ? err : drain_print();
	return bench_stop ? 128 + bench_stop : err ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int restore_main(void)
{
	int err;

	stop_catch_signals();
	err = bench_lock();
	err = err ? err : kernel_knobs_recover();
	return bench_stop ? 128 + bench_stop : err ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* The program in Python starts this one again, for processes on nodes: numa_run.py. */
static void tell_program(void)
{
	char path[600];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	path[n > 0 ? n : 0] = '\0';
	setenv("KSM_BENCH", path, 1);
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "--tenant"))
		return tenant_main(atoi(argv[2]));
	if (argc == 2 && !strcmp(argv[1], "--node-tenant"))
		return node_tenant_main();
	if (argc == 2 && !strcmp(argv[1], "costs"))
		return costs_print() ? EXIT_FAILURE : EXIT_SUCCESS;
	if (argc == 2 && !strcmp(argv[1], "pool"))
		return pool_main();
	if (argc == 2 && !strcmp(argv[1], "restore"))
		return restore_main();
	if (argc >= 2 && (!strcmp(argv[1], "kernel") || !strcmp(argv[1], "growth") ||
			  !strcmp(argv[1], "programs")))
		return measure_main(argv);
	tell_program();
	python_exec(argv); /* numa, report, --help, and all that is wrong */
	return EXIT_FAILURE;
}
