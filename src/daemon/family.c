/* SPDX-License-Identifier: MIT */
/*
 * family.c - see family.h.
 *
 * A process that was forked and has not called execve(2) since holds what its parent held, so the
 * two say the same thing twice. The kernel marks such a process (PF_FORKNOEXEC). The way up from
 * parent to parent, as long as the mark is there, ends at the process that began as a new program:
 * its number and the time of its start name the family.
 *
 * The kernel says all of it, so no client can say otherwise. A client can leave its family only by
 * execve(2), after which it holds nothing of what it held, or by having its parent end before it
 * joins: then it is an orphan, and a family of its own. A hostile program can therefore look like
 * many families with contents that it knows; docs/security.md says what that gains it. It cannot
 * make a victim's family look like two.
 *
 * An orphan that a subreaper took in counts to the subreaper's family: that errs towards fewer
 * families. Pid 1 takes in everybody and is nobody's family.
 */
#include "daemon/family.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FORKED_NO_EXEC 0x40u /* PF_FORKNOEXEC: include/linux/sched.h, shown by /proc/PID/stat */
#define GENERATIONS 32       /* nobody forks deeper without execve; bounds what a HELLO costs */
#define LARGE (1ull << 63)   /* no small number, as the engine gives */

struct stat_line {
	pid_t parent;
	unsigned int flags;
	uint64_t start; /* clock ticks after boot */
};

/* False: there is no such process, or /proc does not show it. */
static bool read_stat(pid_t pid, struct stat_line *s)
{
	char path[32], text[1024], *at;
	unsigned long long start;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return false;
	text[n] = '\0';
	at = strrchr(text, ')'); /* a program's name may hold anything */
	if (!at || sscanf(at + 1,
			  " %*c %d %*d %*d %*d %*d %u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d "
			  "%*d %llu",
			  &s->parent, &s->flags, &start) != 3)
		return false;
	s->start = start;
	return true;
}

static uint64_t name(pid_t pid, uint64_t start)
{
	return LARGE | start << 22 | (uint64_t)(pid & 0x3fffff); /* pids have at most 22 bits */
}

uint64_t family_of(pid_t pid, bool (*known)(void *arg, pid_t pid, uint64_t *family), void *arg)
{
	struct stat_line s, parent;
	uint64_t family;

	if (!read_stat(pid, &s))
		return name(pid, 0);
	for (int i = 0; i < GENERATIONS && (s.flags & FORKED_NO_EXEC) && s.parent > 1; i++) {
		/* Whoever started later has got the number of a parent that has ended. */
		if (!read_stat(s.parent, &parent) || parent.start > s.start)
			break;
		if (known && known(arg, s.parent, &family))
			return family;
		pid = s.parent;
		s = parent;
	}
	return name(pid, s.start);
}
