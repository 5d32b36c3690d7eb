/* SPDX-License-Identifier: MIT */
/* user.c - see user.h. */
#include "tests/lib/user.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/harness.h"

bool not_root(void)
{
	if (geteuid() == 0)
		return false;
	puts("SKIP: needs root to become another user");
	return true;
}

void become(const struct user *u)
{
	gid_t groups[200];

	for (size_t i = 0; i < u->nr_groups; i++)
		groups[i] = 48000u + (gid_t)i;
	if (u->nr_groups)
		groups[u->nr_groups - 1] = u->last;
	if (setgroups(u->nr_groups, groups) || setgid(u->gid) || setuid(u->uid))
		harness_die("cannot become user %u: %s", u->uid, strerror(errno));
}

void as_user(const struct user *u, void (*fn)(struct daemon *d), struct daemon *d)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		become(u);
		fn(d);
		fflush(NULL);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status)
		harness_die("as user %u: status %#x", u->uid, (unsigned int)status);
}
