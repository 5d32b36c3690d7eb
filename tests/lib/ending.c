/* SPDX-License-Identifier: MIT */
/* ending.c - see ending.h. */
#include "tests/lib/ending.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"

int ending_wait(pid_t pid, int ms)
{
	const struct timespec nap = { .tv_nsec = 2000000 };
	uint64_t end = clock_ms() + (uint64_t)ms;
	int status;

	while (waitpid(pid, &status, WNOHANG) != pid) {
		if (clock_ms() > end)
			return -1;
		nanosleep(&nap, NULL);
	}
	return status;
}

/* The lines of /proc/PID/task/TID/NAME, each after the name. */
static void print_file(pid_t pid, const char *tid, const char *name)
{
	char path[320], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%s/%s", (int)pid, tid, name);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		fprintf(stderr, "  %s %s: %.*s\n", tid, name, (int)strcspn(line, "\n"), line);
	if (f)
		fclose(f);
}

void ending_print_threads(pid_t pid)
{
	static const char *const names[] = { "comm", "stat", "wchan", "syscall", "stack", NULL };
	char text[128];
	struct dirent *de;
	DIR *dir;

	snprintf(text, sizeof(text), "/proc/%d/task", (int)pid);
	dir = opendir(text);
	while (dir && (de = readdir(dir))) {
		for (int i = 0; de->d_name[0] != '.' && names[i]; i++)
			print_file(pid, de->d_name, names[i]);
	}
	if (dir)
		closedir(dir);
	fflush(stderr);
	snprintf(text, sizeof(text),
		 "exec timeout 60 gdb -nx -batch -p %d -ex 'thread apply all bt' >&2 </dev/null",
		 (int)pid);
	if (system(text)) /* the kernel's part is there */
		fprintf(stderr, "  gdb does not say more\n");
}

int ending_term(pid_t pid, int ms)
{
	int status;

	/*
	 * SIGCONT comes first: a later one would undo the SIGSTOP with which the leak sanitizer
	 * halts the threads of an ending process, which would then wait for ever.
	 */
	kill(pid, SIGCONT);
	kill(pid, SIGTERM);
	status = ending_wait(pid, ms);
	if (status != -1)
		return status;
	fprintf(stderr, "process %d goes on running %d ms after SIGTERM:\n", (int)pid, ms);
	ending_print_threads(pid);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return -1;
}
