/* SPDX-License-Identifier: MIT */
/*
 * act.c - see act.h.
 *
 * The daemon begins what it is asked for and says how far it has come as often as it is asked, so
 * the waiting is done here. A program that was released has no connection over which it could be
 * told to come back: the command join sends its agent a signal. The kernel sees to it that only the
 * program's own user and root can.
 */
#include "tools/ksmdctl/act.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tools/ksmdctl/ask.h"
#include "tools/ksmdctl/die.h"
#include "tools/ksmdctl/sample.h"
#include "wire/abi.h"

#define NAP_MIN_MS 1
#define NAP_MAX_MS 50
#define PATIENCE_S 3
/* Those that a thread can block, and the agent does, less the one that it waits for. */
#define SIGNAL_BIT(nr) (1ull << ((nr)-1))
#define STANDARD_SIGNALS                                                                           \
	(0x7fffffffull & ~(SIGNAL_BIT(SIGKILL) | SIGNAL_BIT(SIGSTOP) | SIGNAL_BIT(KSM_JOIN_SIGNAL)))
#define SIGNAL_SECONDS 0.1 /* between two signals, since one may be lost in another */

/* A process, and until when this program waits for it. */
struct target {
	const char *pid;
	char dir[64]; /* client/PID */
	char comm[64];
	double begun, end;
	long nap_ms;
};

static bool is_client(struct talk *c, const struct target *t)
{
	char *uid = ctl_value(c, t->dir, "uid");

	free(uid);
	return uid;
}

static void aim(struct talk *c, struct target *t, const char *pid, double seconds)
{
	char *comm;

	if (!*pid || strlen(pid) > 9 || strspn(pid, "0123456789") != strlen(pid))
		die(EXIT_USAGE, "not a process ID: %s", pid);
	*t = (struct target){ .pid = pid, .begun = now_seconds(), .nap_ms = NAP_MIN_MS };
	t->end = t->begun + seconds;
	snprintf(t->dir, sizeof(t->dir), "client/%s", pid);
	comm = ctl_value(c, t->dir, "comm");
	snprintf(t->comm, sizeof(t->comm), "%s", comm ? comm : "?");
	free(comm);
}

/* It runs, and is no zombie. */
static bool is_alive(const struct target *t)
{
	char path[64], stat[512] = "", *state;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/stat", t->pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	if (!fgets(stat, sizeof(stat), f))
		stat[0] = '\0';
	fclose(f);
	state = strrchr(stat, ')');
	return state && state[1] == ' ' && !strchr("ZXx", state[2]);
}

/* False: time is up. */
static bool nap(struct target *t)
{
	struct timespec ts = { .tv_nsec = t->nap_ms * 1000000 };

	if (now_seconds() >= t->end)
		return false;
	nanosleep(&ts, NULL);
	t->nap_ms = t->nap_ms * 2 < NAP_MAX_MS ? t->nap_ms * 2 : NAP_MAX_MS;
	return true;
}

/*
 * Ask how far it has come until that is no more "under way". Returns the last answer's error, or
 * NULL with the answer, for the caller to free.
 */
static const char *await(struct talk *c, struct target *t, const char *what, char **body)
{
	static char err[512];
	char line[256];

	do {
		snprintf(line, sizeof(line), "do %s/%s", t->dir, what);
		*body = ctl_try(c, line, err, sizeof(err));
		if (*body)
			return NULL;
		/* One that was stopped until a moment ago may be about to answer. */
		if (strncmp(err, "EINPROGRESS", 11) &&
		    (strncmp(err, "ETIMEDOUT", 9) || now_seconds() > t->begun + PATIENCE_S))
			return err;
	} while (nap(t));
	snprintf(err, sizeof(err), "ETIMEDOUT");
	return err;
}

__attribute__((noreturn)) static void refused(const struct target *t, const char *err)
{
	const char *words = strchr(err, ' ');

	if (!strncmp(err, "ENOENT", 6))
		die(EXIT_REFUSED, "ENOENT: process %s is no client, or not yours", t->pid);
	die(EXIT_REFUSED, "%.*s: client %s (%s): %s", (int)strcspn(err, " "), err, t->pid, t->comm,
	    words ? words + 1 : "it does not answer");
}

/* ---- release and join ---- */

/*
 * Does the thread wait for the signal, having let go of everything? Otherwise the signal might end
 * the process. The agent blocks all signals; what it waits for in rt_sigtimedwait(2), and that
 * alone, the kernel shows as not blocked.
 */
static bool waits_to_join(const char *pid, pid_t tid)
{
	unsigned long long mask = 0;
	char path[400], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/task/%d/status", pid, (int)tid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f) && sscanf(line, "SigBlk: %llx", &mask) != 1)
		;
	if (f)
		fclose(f);
	return (mask & (STANDARD_SIGNALS | SIGNAL_BIT(KSM_JOIN_SIGNAL))) == STANDARD_SIGNALS;
}

/* The agent's thread, or 0. */
static pid_t find_agent(const char *pid)
{
	char path[400], name[32];
	struct dirent *d;
	pid_t tid = 0;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%s/task", pid);
	tasks = opendir(path);
	while (tasks && !tid && (d = readdir(tasks))) {
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%s/task/%s/comm", pid, d->d_name);
		f = *d->d_name == '.' ? NULL : fopen(path, "re");
		if (f && fgets(name, sizeof(name), f) && !strcmp(name, KSM_AGENT_NAME "\n"))
			tid = atoi(d->d_name);
		if (f)
			fclose(f);
	}
	if (tasks)
		closedir(tasks);
	return tid;
}

static bool is_at_rest(const char *pid)
{
	pid_t tid = find_agent(pid);

	return tid && waits_to_join(pid, tid);
}

void cmd_release(struct talk *c, const char *pid, double seconds)
{
	struct target t;
	const char *err;
	char *body;

	aim(c, &t, pid, seconds);
	free(ctl_ask(c, "do %s/release", t.dir));
	err = await(c, &t, "release look", &body);
	if (!err)
		free(body);
	if (err && !strcmp(err, "ETIMEDOUT"))
		die(EXIT_REFUSED,
		    "ETIMEDOUT: client %s (%s) does not answer; it is released when it goes on",
		    pid, t.comm);
	if (err && strncmp(err, "ENOENT", 6))
		refused(&t, err);
	/* The session has ended: because the client let go of everything, or because it died. */
	do
		if (!is_alive(&t))
			die(EXIT_REFUSED, "ESRCH: process %s ended meanwhile", pid);
	while (!is_at_rest(pid) && !is_client(c, &t) && nap(&t));
	if (is_client(c, &t))
		die(EXIT_REFUSED, "EAGAIN: client %s (%s) has come back", pid, t.comm);
}

/* Returns 0 or -errno. */
static int wake(const char *pid, pid_t tid)
{
	siginfo_t si = { .si_signo = KSM_JOIN_SIGNAL, .si_code = SI_QUEUE };

	si.si_pid = getpid();
	si.si_uid = getuid();
	si.si_value.sival_int = KSM_JOIN_VALUE;
	return syscall(SYS_rt_tgsigqueueinfo, atoi(pid), tid, KSM_JOIN_SIGNAL, &si) ? -errno : 0;
}

void cmd_join(struct talk *c, const char *pid, double seconds)
{
	double again = 0;
	struct target t;
	pid_t tid;
	int err;

	aim(c, &t, pid, seconds);
	while (!ctl_number(c, t.dir, "ready")) {
		if (!is_client(c, &t) && now_seconds() >= again) {
			again = now_seconds() + SIGNAL_SECONDS;
			tid = find_agent(pid);
			if (!tid)
				die(EXIT_REFUSED, "ESRCH: no process %s with an agent of libksm",
				    pid);
			/* If it does not wait it is on its way to a daemon already. */
			err = kill(atoi(pid), 0) ? -errno : 0;
			if (!err && waits_to_join(pid, tid))
				err = wake(pid, tid);
			if (err)
				die(EXIT_REFUSED, "%s: process %s: %s", strerrorname_np(-err), pid,
				    strerror(-err));
		}
		if (!nap(&t))
			die(EXIT_REFUSED, "ETIMEDOUT: process %s does not come back to this daemon",
			    pid);
	}
}

/* ---- merge ---- */

void cmd_merge(struct talk *c, const char *pid, bool wait, double seconds)
{
	char what[64], *number;
	struct target t;
	const char *err;

	aim(c, &t, pid, seconds);
	err = await(c, &t, "merge", &number);
	if (!err && wait) {
		snprintf(what, sizeof(what), "merge %.*s", (int)strcspn(number, "\n"), number);
		free(number);
		err = await(c, &t, what, &number);
	}
	if (err)
		refused(&t, err);
	free(number);
}
