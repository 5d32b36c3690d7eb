/* SPDX-License-Identifier: MIT */
/*
 * harness.h - a daemon of one's own for each test, and how to talk to it.
 *
 * Every daemon lives in a fresh directory and dies with the process that started it
 * (PR_SET_PDEATHSIG), so tests can run side by side and a crashed test leaves nothing running. A
 * failure that only a broken test can cause ends the process with a message (harness_die). The test
 * framework runs each test in its own process and reports that.
 */
#ifndef KSM_TEST_HARNESS_H
#define KSM_TEST_HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "tests/lib/viewed.h"

struct daemon {
	pid_t pid; /* 0 when it does not run */
	char dir[256];
	bool own_dir; /* made by daemon_start(); removed by daemon_stop() */
	struct viewed view;
};

/* Fail the test: message with file and line on stderr, then abort(). */
#define harness_die(...) harness_die_at(__FILE__, __LINE__, __VA_ARGS__)
void harness_die_at(const char *file, int line, const char *fmt, ...)
	__attribute__((format(printf, 3, 4), noreturn));

/* A sanitizer's build has no preloaded object: programs that load it do not carry its run time. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

/* Path of a program or library in the build directory ($KSM_BUILD, else "build"). Static buffer. */
const char *build_path(const char *name);

/*
 * Start a daemon in a new temporary directory and wait until it answers. extra_args: NULL or a
 * NULL-terminated list added to the command line. Sets $KSMD_RUNTIME_DIR, so that libksm, ksmdctl
 * and ksm-run in this process and its children find it.
 */
struct daemon *daemon_start(const char *const extra_args[]);
/* The same in a directory that the caller keeps. */
struct daemon *daemon_start_in(const char *dir, const char *const extra_args[]);
/* SIGTERM, wait for the end (must be exit code 0), remove the directory, free. */
void daemon_stop(struct daemon *d);
/* SIGKILL and reap; the directory stays. Start it again with daemon_restart(). */
void daemon_kill(struct daemon *d);
void daemon_restart(struct daemon *d, const char *const extra_args[]);
/*
 * Run a ksmd-user that is expected to refuse to start, and return its exit code. Its stderr goes to
 * err. Dies when it does not end within WAIT_MS.
 */
int daemon_expect_exit(const char *dir, const char *const extra_args[], char *err, size_t size);

/*
 * One command on a new connection to control.sock. Return 0 (or the length of the answer, which is
 * NUL-terminated and without the trailing newline), or the negative errno that the daemon named,
 * or -ENOTCONN when there is no daemon.
 */
int ctl_get(struct daemon *d, const char *path, char *buf, size_t size);
int ctl_ls(struct daemon *d, const char *path, char *buf, size_t size);
int ctl_set(struct daemon *d, const char *path, const char *value);
/* An action, "client/4711/why 0x1000"; also the negative errno of a refusal. */
int ctl_do(struct daemon *d, const char *what, char *buf, size_t size);
int ctl_set_u64(struct daemon *d, const char *path, uint64_t value);
/* Number at `path`; dies when it is not there. ctl_client_u64: client/PID/name, 0 if no client. */
uint64_t ctl_get_u64(struct daemon *d, const char *path);
int64_t ctl_get_s64(struct daemon *d, const char *path);
uint64_t ctl_client_u64(struct daemon *d, pid_t pid, const char *name);

/* A connection to dir/name (SOCK_STREAM or SOCK_SEQPACKET), or -errno. */
int harness_connect(const char *dir, const char *name, int type);
/* Descriptors that process `pid` has open. */
int harness_nr_fds(pid_t pid);
/*
 * The same of a daemon, but without connections to its control socket. It closes these a moment
 * after we have, and nothing tells when.
 */
int daemon_nr_fds(const struct daemon *d);
/* The number behind `key` in /proc/PID/status ("VmRSS"), in its unit; dies when it is not there. */
long harness_status(pid_t pid, const char *key);
uint64_t harness_now_ms(void);
void harness_nap(void); /* the pause between two looks at a condition */

/*
 * How long a test waits for things that take an idle machine a second or two. Only a hang takes
 * longer, even on a loaded machine. No test measures time with it.
 */
#define WAIT_MS 60000

/* Wait until `cond` is true; die with `what` when it is not after `timeout_ms`. */
#define wait_until(cond, timeout_ms, what)                                                         \
	do {                                                                                       \
		uint64_t wait_until_end_ = harness_now_ms() + (uint64_t)(timeout_ms);              \
		while (!(cond)) {                                                                  \
			if (harness_now_ms() > wait_until_end_)                                    \
				harness_die("not within %d ms: %s (%s)", (int)(timeout_ms), what,  \
					    #cond);                                                \
			harness_nap();                                                             \
		}                                                                                  \
	} while (0)

/*
 * Wait until the daemon has completed `passes` more passes over all regions. Needs run == 1 and a
 * client.
 */
void wait_full_scans(struct daemon *d, unsigned int passes, int timeout_ms);

#endif
