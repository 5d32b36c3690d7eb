/* SPDX-License-Identifier: MIT */
/* slowfile.c - see slowfile.h. The least of the FUSE protocol that a read of one file needs. */
#include "tests/lib/slowfile.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/harness.h"

#define FILE_SIZE (1u << 20)
#define BUF_SIZE (FUSE_MIN_READ_BUFFER + (128u << 10))

static void reply(int dev, uint64_t unique, int error, const void *data, size_t len)
{
	struct fuse_out_header out = { .len = (uint32_t)(sizeof(out) + len),
				       .error = error,
				       .unique = unique };
	struct iovec iov[2] = { { &out, sizeof(out) }, { (void *)data, len } };

	/* ENOENT: who asked was interrupted and does not wait any more. */
	if (writev(dev, iov, len ? 2 : 1) < 0 && errno != ENOENT)
		_exit(3);
}

static struct fuse_attr root_attr(void)
{
	return (struct fuse_attr){
		.ino = 1, .size = FILE_SIZE, .mode = S_IFREG | 0600, .nlink = 1, .blksize = 4096
	};
}

static void serve_read(int dev, int ctl, uint64_t unique, uint32_t size)
{
	static uint8_t data[FILE_SIZE];
	uint8_t byte = 0;

	if (send(ctl, "r", 1, MSG_NOSIGNAL) != 1 || recv(ctl, &byte, 1, 0) != 1)
		_exit(0);
	memset(data, byte, sizeof(data));
	reply(dev, unique, 0, data, size < sizeof(data) ? size : sizeof(data));
}

static void serve_one(int dev, int ctl, const struct fuse_in_header *in)
{
	const void *arg = in + 1;
	struct fuse_init_out init = { .major = FUSE_KERNEL_VERSION,
				      .minor = FUSE_KERNEL_MINOR_VERSION,
				      .max_write = 128u << 10 };
	struct fuse_attr_out attr = { .attr = root_attr() };
	struct fuse_open_out open = { .open_flags = FOPEN_DIRECT_IO };

	switch (in->opcode) {
	case FUSE_INIT:
		reply(dev, in->unique, 0, &init, sizeof(init));
		break;
	case FUSE_GETATTR:
		reply(dev, in->unique, 0, &attr, sizeof(attr));
		break;
	case FUSE_OPEN:
		reply(dev, in->unique, 0, &open, sizeof(open));
		break;
	case FUSE_READ:
		serve_read(dev, ctl, in->unique, ((const struct fuse_read_in *)arg)->size);
		break;
	case FUSE_FORGET:
	case FUSE_INTERRUPT:
		break;
	case FUSE_RELEASE:
	case FUSE_FLUSH:
		reply(dev, in->unique, 0, NULL, 0);
		break;
	default:
		reply(dev, in->unique, -ENOSYS, NULL, 0);
	}
}

static void serve(int dev, int ctl)
{
	_Alignas(8) static char buf[BUF_SIZE];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		ssize_t n = read(dev, buf, sizeof(buf));

		if (n < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT))
			continue;
		if (n < (ssize_t)sizeof(struct fuse_in_header))
			_exit(0); /* ENODEV: unmounted */
		serve_one(dev, ctl, (void *)buf);
	}
}

int slowfile_open(struct slowfile *f)
{
	char path[] = "/tmp/ksm-slowfile-XXXXXX", opts[128];
	int dev, sv[2], r;

	memset(f, 0, sizeof(*f));
	dev = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (dev < 0)
		return -errno;
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return -errno;
	close(mkstemp(path));
	snprintf(opts, sizeof(opts), "fd=%d,rootmode=100000,user_id=%d,group_id=%d", dev,
		 (int)getuid(), (int)getgid());
	r = mount("slowfile", path, "fuse", MS_NOSUID | MS_NODEV, opts);
	if (r) {
		r = -errno;
		unlink(path);
		return r;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv))
		harness_die("socketpair: %s", strerror(errno));
	f->pid = fork();
	if (f->pid == 0) {
		close(sv[1]);
		serve(dev, sv[0]);
	}
	close(dev);
	close(sv[0]);
	f->ctl = sv[1];
	f->fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (f->fd < 0)
		harness_die("%s: %s", path, strerror(errno));
	umount2(path, MNT_DETACH);
	unlink(path);
	return 0;
}

void slowfile_wait_read(struct slowfile *f)
{
	char c;

	if (recv(f->ctl, &c, 1, 0) != 1)
		harness_die("the file server is gone");
}

void slowfile_answer(struct slowfile *f, uint8_t byte)
{
	if (send(f->ctl, &byte, 1, MSG_NOSIGNAL) != 1)
		harness_die("the file server is gone");
}

void slowfile_close(struct slowfile *f)
{
	close(f->fd);
	close(f->ctl);
	kill(f->pid, SIGKILL);
	waitpid(f->pid, NULL, 0);
}
