/* SPDX-License-Identifier: MIT */
/*
 * watch.c - see watch.h.
 *
 * A program's memory is gone with its end. The kernel stops a traced thread on its way out, when
 * the memory is still there (PTRACE_EVENT_EXIT), so the program's first thread is traced. That
 * changes nothing else for the program, except that it cannot be traced by another, and that a
 * set-user-ID program does not get its rights (ptrace(2)).
 *
 * A program that is killed, or ended by a thread that is not its first, does not stop there. Then
 * there is only what was asked for before.
 */
#include "tools/memory/watch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/memory/estimate.h"

enum { CANNOT_RUN = 126, NOT_FOUND = 127 };

static volatile sig_atomic_t asked;
static volatile pid_t program;

static void on_ask(int sig)
{
	(void)sig;
	asked = 1;
}

/* What is meant for the program reaches this process. */
static void pass_on(int sig)
{
	kill(program, sig);
}

/* ---- what there is to look at ---- */

static pid_t parent_of(const char *pid)
{
	char path[300], stat[512] = "", *at;
	int ppid = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/stat", pid);
	f = fopen(path, "re");
	if (f && !fgets(stat, sizeof(stat), f))
		stat[0] = '\0';
	if (f)
		fclose(f);
	at = strrchr(stat, ')');
	return at && sscanf(at, ") %*c %d", &ppid) == 1 ? ppid : 0;
}

static bool descends(const char *pid, pid_t from)
{
	char next[16];
	pid_t parent = parent_of(pid);

	for (int depth = 0; parent > 1 && parent != from && depth < 64; depth++) {
		snprintf(next, sizeof(next), "%d", (int)parent);
		parent = parent_of(next);
	}
	return parent == from;
}

/* The program and what came from it; what ends meanwhile is left out. */
static void say(pid_t pid)
{
	struct estimate *e = estimate_new();
	struct estimate_result r;
	DIR *proc = opendir("/proc");
	struct dirent *d;

	if (e)
		estimate_add(e, pid);
	while (e && proc && (d = readdir(proc)))
		if (d->d_name[0] >= '1' && d->d_name[0] <= '9' && descends(d->d_name, pid))
			estimate_add(e, atoi(d->d_name));
	if (proc)
		closedir(proc);
	fputs("ksm-run: what merging would save:\n", stderr);
	if (!e || estimate_result(e, &r))
		fputs("ksm-run: out of memory\n", stderr);
	else
		estimate_print(&r, stderr);
	if (e)
		estimate_free(e);
}

/* ---- the program ---- */

__attribute__((noreturn)) static void become(int go, char *const argv[])
{
	char byte;

	while (read(go, &byte, 1) < 0 && errno == EINTR)
		;
	execvp(argv[0], argv);
	fprintf(stderr, "ksm-run: %s: %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT ? NOT_FOUND : CANNOT_RUN);
}

static void set_signals(void)
{
	struct sigaction ask = { .sa_handler = on_ask }, pass = { .sa_handler = pass_on };

	sigaction(SIGUSR1, &ask, NULL);
	sigaction(SIGTERM, &pass, NULL);
	sigaction(SIGHUP, &pass, NULL);
	/* The terminal sends these to the program, too. */
	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
}

/* The program's thread has stopped. Returns whether it was on its way out. */
static bool go_on(pid_t pid, int status)
{
	int event = status >> 16, sig = WSTOPSIG(status);
	bool stops = sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU;

	if (event == PTRACE_EVENT_EXIT)
		say(pid);
	if (event == PTRACE_EVENT_STOP && stops)
		ptrace(PTRACE_LISTEN, pid, 0, 0);
	else
		ptrace(PTRACE_CONT, pid, 0, event ? 0 : sig);
	return event == PTRACE_EVENT_EXIT;
}

/* Until it has ended. Returns its wait status. */
static int follow(pid_t pid)
{
	bool said = false;
	int status;

	for (;;) {
		pid_t got = waitpid(pid, &status, __WALL);
		bool again = got < 0 && errno == EINTR;

		if (asked) {
			asked = 0;
			say(pid);
		}
		if (got == pid && WIFSTOPPED(status))
			said |= go_on(pid, status);
		else if (!again)
			break;
	}
	if (!said)
		fputs("ksm-run: the program's memory had gone before it could be looked at\n",
		      stderr);
	return status;
}

int watch_run(char *const argv[])
{
	int go[2], status;

	if (pipe2(go, O_CLOEXEC))
		return CANNOT_RUN;
	program = fork();
	if (program < 0)
		return CANNOT_RUN;
	if (!program) {
		close(go[1]);
		become(go[0], argv);
	}
	set_signals();
	if (ptrace(PTRACE_SEIZE, program, 0, PTRACE_O_TRACEEXIT))
		fprintf(stderr, "ksm-run: only on request (SIGUSR1): ptrace: %s\n",
			strerror(errno));
	close(go[1]); /* now it begins */
	close(go[0]);
	status = follow(program);
	if (WIFSIGNALED(status)) {
		signal(WTERMSIG(status), SIG_DFL);
		raise(WTERMSIG(status));
	}
	return WEXITSTATUS(status);
}
