/* SPDX-License-Identifier: MIT */
/*
 * runtime_dir.c - see runtime_dir.h.
 *
 * The process that holds the flock on DIR/lock is the daemon of DIR. The kernel drops the lock when
 * that process ends, however it ends, so the next daemon may replace whatever else lies there. The
 * lock file stays: removing it would let two daemons lock two different files of the same name.
 */
#include "daemon/runtime_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "wire/runtime_dir.h"
#include "wire/trust.h"
#include "wire/wire.h"

#define OTHERS_WRITE (S_IWGRP | S_IWOTH)
#define PID_DIGITS 10 /* of an int */

/* The daemon of root serves every user, any other only its own. */
static bool serves_all(void)
{
	return geteuid() == 0;
}

/* A daemon that nobody obeys would be a riddle. It serves all the same: clients may differ. */
static void warn_of_way(const struct runtime_dir *p)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", p->dir, KSM_CLIENT_SOCKET);
	if (!trust_dir(path))
		log_msg(LOG_WARNING,
			"another user owns, or can write, a directory or link on the way to %s: "
			"clients will not trust it",
			p->dir);
}

static int make_dir(struct runtime_dir *p)
{
	struct stat st;

	if (mkdir(p->dir, serves_all() ? 0755 : 0700) == 0) {
		if (chmod(p->dir, serves_all() ? 0755 : 0700) == 0) /* whatever the umask */
			return 0;
	} else if (errno == EEXIST) {
		if (stat(p->dir, &st)) {
			log_msg(LOG_ERROR, "cannot look at %s: %s", p->dir, strerror(errno));
			return -1;
		}
		if (S_ISDIR(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & OTHERS_WRITE))
			return 0;
		if (S_ISDIR(st.st_mode) && st.st_uid == geteuid()) {
			log_msg(LOG_ERROR, "others can write %s: no client would trust it", p->dir);
			return -1;
		}
		log_msg(LOG_ERROR, "%s is not a directory of user %u", p->dir, geteuid());
		return -1;
	}
	log_msg(LOG_ERROR, "cannot make %s: %s", p->dir, strerror(errno));
	return -1;
}

/*
 * Say that another daemon has the lock. Whoever may write the lock file chose its text, so only a
 * process number of it reaches the operator's terminal and log.
 */
static void say_running(const struct runtime_dir *p)
{
	char pid[PID_DIGITS + 1] = "";
	ssize_t n = pread(p->lock, pid, PID_DIGITS, 0);

	pid[n > 0 ? n : 0] = '\0';
	pid[strspn(pid, "0123456789")] = '\0';
	log_msg(LOG_ERROR, "ksmd-user is already running in %s, process %s", p->dir,
		pid[0] ? pid : "unknown");
}

static int take_lock(struct runtime_dir *p)
{
	char path[128], pid[32];

	snprintf(path, sizeof(path), "%s/lock", p->dir);
	p->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (p->lock < 0) {
		log_msg(LOG_ERROR, "cannot open %s: %s", path, strerror(errno));
		return -1;
	}
	if (flock(p->lock, LOCK_EX | LOCK_NB)) {
		if (errno != EWOULDBLOCK) {
			log_msg(LOG_ERROR, "cannot lock %s: %s", path, strerror(errno));
			return -1;
		}
		say_running(p);
		return -1;
	}
	snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
	if (ftruncate(p->lock, 0) || pwrite(p->lock, pid, strlen(pid), 0) < 0) {
		log_msg(LOG_ERROR, "cannot write %s: %s", path, strerror(errno));
		return -1;
	}
	return 0;
}

static int listen_on(struct runtime_dir *p, const char *name, int type)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), err = errno;

	if ((size_t)snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/%s", p->dir, name) >=
	    sizeof(sun.sun_path)) {
		log_msg(LOG_ERROR, "%s is too long a name for a directory of sockets", p->dir);
	} else {
		unlink(sun.sun_path); /* a dead daemon's: we have the lock */
		errno = err;
		if (fd >= 0 && !bind(fd, (struct sockaddr *)&sun, sizeof(sun)) &&
		    !chmod(sun.sun_path, serves_all() ? 0666 : 0600) && !listen(fd, SOMAXCONN))
			return fd;
		log_msg(LOG_ERROR, "cannot listen on %s: %s", sun.sun_path, strerror(errno));
	}
	if (fd >= 0)
		close(fd);
	return -1;
}

int runtime_dir_open(struct runtime_dir *p, const char *dir, int client, int control)
{
	p->closed = false;
	p->lock = -1;
	p->client = client;
	p->control = control;
	p->passed = client >= 0;
	if (ksm_runtime_path(p->dir, sizeof(p->dir), dir, NULL)) {
		log_msg(LOG_ERROR, "no runtime directory: give --runtime-dir, or set "
				   "$XDG_RUNTIME_DIR (at most 107 characters)");
		return -1;
	}
	if (make_dir(p) || take_lock(p)) {
		if (p->lock >= 0)
			close(p->lock);
		return -1;
	}
	warn_of_way(p);
	if (p->passed)
		return 0;
	p->client = listen_on(p, KSM_CLIENT_SOCKET, SOCK_SEQPACKET);
	if (p->client >= 0)
		p->control = listen_on(p, KSM_CONTROL_SOCKET, SOCK_STREAM);
	if (p->control >= 0)
		return 0;
	runtime_dir_close(p);
	return -1;
}

static void remove_name(const struct runtime_dir *p, const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", p->dir, name);
	unlink(path);
}

void runtime_dir_close(struct runtime_dir *p)
{
	/* The names may be those of the next daemon once the lock is given up. */
	if (atomic_exchange(&p->closed, true))
		return;
	if (!p->passed) {
		remove_name(p, KSM_CLIENT_SOCKET);
		remove_name(p, KSM_CONTROL_SOCKET);
	}
	if (p->client >= 0)
		close(p->client);
	if (p->control >= 0)
		close(p->control);
	close(p->lock);
}
