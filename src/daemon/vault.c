/* SPDX-License-Identifier: MIT */
/*
 * vault.c - see vault.h.
 *
 * The mounter makes the mounts and passes the two root directories through a socket pair. It is a
 * process of its own because the way may lead through a user namespace (an unprivileged
 * daemon) or a mount namespace (Linux before 6.15 does not clone a mount that is attached
 * nowhere), and the daemon must stay in those of its clients. The mounter exits at once, and the
 * namespaces end with it; the mounts live on in the two directories.
 */
#include "daemon/vault.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* mount(2) of <sys/mount.h>, whose structures clash with those of <linux/mount.h>. */
#define MOUNT_PRIVATE_REC (1ul << 14 | 1ul << 18) /* MS_REC | MS_PRIVATE, linux/mount.h */

/* ---- the mounter ---- */

static int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		err = -errno;
	close(fd);
	return err;
}

/* The mounter becomes root of a user namespace; outside it stays the daemon's user and group. */
static int enter_user_namespace(void)
{
	char uid_map[48], gid_map[48];
	int err;

	snprintf(uid_map, sizeof(uid_map), "%u %u 1", geteuid(), geteuid());
	snprintf(gid_map, sizeof(gid_map), "%u %u 1", getegid(), getegid());
	/* The maps are root's files while the process is not dumpable. */
	if (prctl(PR_SET_DUMPABLE, 1) || unshare(CLONE_NEWUSER | CLONE_NEWNS))
		return -errno;
	err = write_text("/proc/self/setgroups", "deny");
	if (!err)
		err = write_text("/proc/self/uid_map", uid_map);
	if (!err)
		err = write_text("/proc/self/gid_map", gid_map);
	if (prctl(PR_SET_DUMPABLE, 0) && !err)
		err = -errno;
	return err;
}

static int set_option(int fs, const char *key, const char *value)
{
	return (int)syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, value, 0);
}

/* A detached tmpfs of 4 KiB folios. Programs may make merged pages executable: it is no noexec. */
static int make_mount(uint64_t bytes)
{
	char size[24];
	int fs = (int)syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC), mnt, err;

	if (fs < 0)
		return -errno;
	snprintf(size, sizeof(size), "%llu", (unsigned long long)bytes);
	/* A kernel without huge pages knows no "huge". */
	set_option(fs, "huge", "never");
	if (set_option(fs, "size", size) || set_option(fs, "mode", "0700") ||
	    syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		mnt = -1;
	else
		mnt = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC,
				   MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	err = mnt < 0 ? -errno : mnt;
	close(fs);
	return err;
}

static int clone_mount(int mnt)
{
	return (int)syscall(SYS_open_tree, mnt, "",
			    OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
}

/* Over the root of a mount namespace that nobody else sees, and that ends with the mounter. */
static int attach_privately(int mnt, bool have_namespace)
{
	if (!have_namespace && unshare(CLONE_NEWNS))
		return -1;
	if (syscall(SYS_mount, NULL, "/", NULL, MOUNT_PRIVATE_REC, NULL))
		return -1;
	return (int)syscall(SYS_move_mount, mnt, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH);
}

static int clone_readonly(int mnt, bool have_namespace)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY };
	int ro = clone_mount(mnt);

	if (ro < 0 && errno == EINVAL && !attach_privately(mnt, have_namespace))
		ro = clone_mount(mnt);
	if (ro < 0 || syscall(SYS_mount_setattr, ro, "", AT_EMPTY_PATH, &attr, sizeof(attr)))
		return -errno;
	return ro;
}

/* dir[0] through the mount that can be written, dir[1] through the clone. 0 or -errno. */
static int make_dirs(uint64_t bytes, int dir[2])
{
	bool have_namespace = false;
	int mnt, ro;

	if (prctl(PR_SET_DUMPABLE, 0))
		return -errno;
	mnt = make_mount(bytes);
	if (mnt == -EPERM) {
		int err = enter_user_namespace();

		if (err)
			return err;
		have_namespace = true;
		mnt = make_mount(bytes);
	}
	if (mnt < 0)
		return mnt;
	ro = clone_readonly(mnt, have_namespace);
	if (ro < 0)
		return ro;
	dir[0] = openat(mnt, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir[1] = openat(ro, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir[0] < 0 || dir[1] < 0 ? -errno : 0;
}

union fd_buf {
	struct cmsghdr hdr;
	char room[CMSG_SPACE(2 * sizeof(int))];
};

/* The mounter's whole life. */
static void mounter_main(int sock, uint64_t bytes)
{
	union fd_buf buf = { 0 };
	int dir[2], err = make_dirs(bytes, dir);
	struct iovec iov = { &err, sizeof(err) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (!err) {
		msg.msg_control = buf.room;
		msg.msg_controllen = sizeof(buf.room);
		buf.hdr = (struct cmsghdr){ CMSG_LEN(sizeof(dir)), SOL_SOCKET, SCM_RIGHTS };
		memcpy(CMSG_DATA(&buf.hdr), dir, sizeof(dir));
	}
	_exit(sendmsg(sock, &msg, 0) == sizeof(err) ? 0 : 1);
}

/* ---- the daemon ---- */

/* What the mounter answered; it always sends one message or dies. */
static int receive_dirs(int sock, struct vault *v)
{
	union fd_buf buf = { 0 };
	int err = 0, dir[2];
	struct iovec iov = { &err, sizeof(err) };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = buf.room,
			      .msg_controllen = sizeof(buf.room) };
	ssize_t n;

	do
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (n != sizeof(err) || (!err && buf.hdr.cmsg_len != CMSG_LEN(sizeof(dir))))
		return -EPROTO;
	if (err)
		return err;
	memcpy(dir, CMSG_DATA(&buf.hdr), sizeof(dir));
	v->write_dir = dir[0];
	v->read_dir = dir[1];
	return 0;
}

int vault_open(struct vault *v, uint64_t bytes)
{
	int sock[2], err;
	pid_t mounter;

	*v = (struct vault){ -1, -1 };
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock))
		return -errno;
	mounter = fork();
	if (mounter == 0)
		mounter_main(sock[1], bytes);
	err = mounter < 0 ? -errno : 0;
	close(sock[1]);
	if (!err)
		err = receive_dirs(sock[0], v);
	close(sock[0]);
	while (mounter > 0 && waitpid(mounter, NULL, 0) < 0 && errno == EINTR)
		;
	return err;
}

void vault_close(struct vault *v)
{
	if (v->write_dir >= 0)
		close(v->write_dir);
	if (v->read_dir >= 0)
		close(v->read_dir);
	*v = (struct vault){ -1, -1 };
}

/* Sealed against all that a client of the daemon's user could do to it except writing. */
static int new_memfd(const char *name, uint64_t size, enum vault_use use, struct vault_file *f)
{
	int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

	if (use == VAULT_EMPTY)
		seals |= F_SEAL_WRITE;
	f->fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (f->fd < 0 || fchmod(f->fd, 0400) || ftruncate(f->fd, (off_t)size) ||
	    fcntl(f->fd, F_ADD_SEALS, seals))
		return -errno;
	f->proto = f->fd;
	return 0;
}

static int new_file(const struct vault *v, const char *name, uint64_t size, struct vault_file *f)
{
	int err = 0;

	f->fd = openat(v->write_dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
	if (f->fd < 0)
		return -errno;
	f->proto = openat(v->read_dir, name, O_RDONLY | O_CLOEXEC);
	if (f->proto < 0 || ftruncate(f->fd, (off_t)size))
		err = -errno;
	if (unlinkat(v->write_dir, name, 0) && !err)
		err = -errno;
	return err;
}

int vault_file_new(const struct vault *v, const char *name, uint64_t size, enum vault_use use,
		   struct vault_file *f)
{
	int err;

	*f = (struct vault_file){ -1, -1 };
	err = vault_is_weak(v) ? new_memfd(name, size, use, f) : new_file(v, name, size, f);
	if (err)
		vault_file_close(f);
	return err;
}

int vault_file_share(const struct vault_file *f)
{
	char path[32];
	int fd;

	/* Opening a descriptor of the read-only mount again stays within that mount. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", f->proto);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

void vault_file_close(struct vault_file *f)
{
	if (f->proto >= 0 && f->proto != f->fd)
		close(f->proto);
	if (f->fd >= 0)
		close(f->fd);
	*f = (struct vault_file){ -1, -1 };
}
