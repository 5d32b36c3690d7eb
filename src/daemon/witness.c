/* SPDX-License-Identifier: MIT */
/* witness.c - see witness.h. A question is a pidfd; the answer is the namespaces' descriptors. */
#include "daemon/witness.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/confine.h"

/* PIDFD_GET_*_NAMESPACE of Linux 6.11; our headers may be older. */
#define GET_PID_NAMESPACE _IO(0xff, 5)
#define GET_USER_NAMESPACE _IO(0xff, 9)

_Static_assert(NS_NR <= BESIDE_FDS, "an answer holds all namespaces");

/* ---- the witness ---- */

static int open_namespaces(int pidfd, int ns[NS_NR])
{
	int err;

	ns[NS_USER] = ioctl(pidfd, GET_USER_NAMESPACE, 0);
	if (ns[NS_USER] < 0)
		return -errno;
	ns[NS_PID] = ioctl(pidfd, GET_PID_NAMESPACE, 0);
	if (ns[NS_PID] >= 0)
		return 0;
	err = -errno;
	close(ns[NS_USER]);
	return err;
}

static int answer(const struct beside_message *q, struct beside_message *a)
{
	int err = q->nr_fds == 1 ? open_namespaces(q->fd[0], a->fd) : -EBADF;

	a->nr_fds = err ? 0 : NS_NR;
	return err;
}

/* ---- the daemon ---- */

static const struct beside_kind witness_kind = {
	.what = "the process that sees namespaces",
	.room = 1, /* bodies are empty */
	.confine = confine_witness,
	.answer = answer,
};

static uint64_t inode_of(const char *path)
{
	struct stat st;

	return stat(path, &st) ? 0 : st.st_ino;
}

int witness_start(struct witness *w)
{
	w->own[NS_USER] = inode_of("/proc/self/ns/user");
	w->own[NS_PID] = inode_of("/proc/self/ns/pid");
	return beside_start(&w->beside, &witness_kind);
}

void witness_stop(struct witness *w)
{
	beside_stop(&w->beside);
}

int witness_ask(struct witness *w, int pidfd, int ns[NS_NR], uint64_t id[NS_NR])
{
	const struct beside_message q = { .fd = { pidfd }, .nr_fds = 1 };
	struct beside_message a = { 0 };
	struct stat st;
	int err;

	if (!w->own[NS_USER] || !w->own[NS_PID])
		return -ENOTCONN;
	err = beside_ask(&w->beside, &q, &a);
	if (err)
		return err;
	/* Fewer descriptors than were sent: we may have no more open. */
	err = a.nr_fds == NS_NR ? 0 : -EMFILE;
	for (size_t i = 0; i < a.nr_fds && !err; i++) {
		err = fstat(a.fd[i], &st) ? -errno : 0;
		ns[i] = a.fd[i];
		id[i] = st.st_ino;
	}
	for (size_t i = 0; i < a.nr_fds && err; i++)
		close(a.fd[i]);
	return err;
}
