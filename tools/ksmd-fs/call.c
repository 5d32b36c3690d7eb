/* SPDX-License-Identifier: MIT */
/* call.c - see call.h. */
#include "tools/ksmd-fs/call.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- the caller's ids, for one thread: the C library's functions change those of all ---- */

static void must(long ret)
{
	if (ret) /* going on with another's ids is the one thing that must not happen */
		abort();
}

static int take_ids(const struct caller *who)
{
	if (syscall(SYS_setgroups, who->nr_groups, who->groups))
		return -errno;
	must(syscall(SYS_setresgid, -1, who->gid, -1));
	must(syscall(SYS_setresuid, -1, who->uid, -1));
	return 0;
}

static void give_ids_back(void)
{
	must(syscall(SYS_setresuid, -1, getuid(), -1));
	must(syscall(SYS_setresgid, -1, getgid(), -1));
	must(syscall(SYS_setgroups, 0, NULL));
}

static int connect_as(struct talk *t, const struct caller *who)
{
	bool other = getuid() == 0 && (who->uid != 0 || who->gid != getgid());
	int err = other ? take_ids(who) : 0;

	if (err)
		return err;
	err = talk_connect(t);
	if (other)
		give_ids_back();
	return err == 0 || err == -EACCES || err == -EINTR ? err : -EIO;
}

/* ---- the connection ---- */

int call_open(struct talk *t, const char *path, const struct caller *who)
{
	int err = talk_socket(t, path);

	if (!err)
		err = connect_as(t, who);
	if (!err && !talk_trusted(t))
		err = -EIO;
	if (err)
		talk_close(t);
	return err == -ENAMETOOLONG ? -EIO : err;
}
