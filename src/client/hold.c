// SPDX-License-Identifier: MIT
/*
 * hold.c - hold a range of frame mappings still, and know what is in it.
 *
 * Memory that stands on frames cannot be moved away (UFFDIO_MOVE takes anonymous mappings only), but it
 * can be write-protected in the synchronous userfaultfd: readers go on, writers wait, forks see
 * everything. Frames themselves never change. So between hold_begin() and hold_end() the contents are
 * fixed, with one exception: a page that broke copy-on-write is a private page, and a device may still be
 * writing to it on behalf of an O_DIRECT read or an io_uring buffer that was pinned before. The kernel
 * offers no test for pins on such a page, so hold_may_be_pinned() asks whether the process has
 * any means of pinning at all. What it cannot see is another process in the middle of a
 * process_vm_writev(2), which pins for microseconds.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "client/agent.h"
#include "client/as.h"
#include "client/io.h"
#include "client/maps.h"
#include "client/sysc.h"
#include "wire/kernel_abi.h"

/* More descriptors than this are not looked through while writers wait (3 us each). */
#define MAX_FDS 1000

int hold_begin(struct agent *a, uint64_t start, uint64_t end)
{
	struct uffdio_writeprotect wp = {
		.range = { start, end - start },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	long r;

	uffd_unregister(a->uffd_async, start, end);
	r = uffd_register(a->uffd_sync, start, end, UFFDIO_REGISTER_MODE_WP);
	if (r < 0)
		return (int)r;
	while ((r = sysc3(SYS_ioctl, a->uffd_sync, UFFDIO_WRITEPROTECT, &wp)) == -EAGAIN)
		uffd_serve_forks(a, start, 0, a->staging);
	return (int)r;
}

void hold_end(struct agent *a, uint64_t start, uint64_t end)
{
	uffd_unregister(a->uffd_sync, start, end); /* lifts the protection */
	uffd_wake(a->uffd_sync, start, end);
	/* A thread that forked meanwhile waits for its event to be read. Nothing was missing. */
	uffd_serve_forks(a, start, 0, a->staging);
}

/*
 * Present pages that are not the file's. Everything else is a frame, touched or not, or a private
 * page that was swapped out, which nobody can have pinned. (Protecting an untouched frame leaves a
 * marker in its place that the scan calls swapped.)
 */
long hold_private(struct agent *a, uint64_t start, uint64_t end, struct kabi_page_region *v)
{
	struct kabi_pm_scan_arg scan = {
		.size = sizeof(scan),
		.start = start,
		.end = end,
		.vec = (uintptr_t)v,
		.vec_len = HOLD_MAX_PAGES,
		.category_inverted = KABI_PAGE_IS_FILE,
		.category_mask = KABI_PAGE_IS_PRESENT | KABI_PAGE_IS_FILE,
		.return_mask = KABI_PAGE_IS_PRESENT,
	};

	return sysc3(SYS_ioctl, a->pagemap, KABI_PAGEMAP_SCAN, &scan);
}

static bool may_be_positive(const char *status, const char *key)
{
	const char *p = strstr(status, key);

	if (!p)
		return true;
	for (p += strlen(key); *p == ' ' || *p == '\t'; p++)
		;
	return *p != '0';
}

/* Pages pinned for long (io_uring fixed buffers, RDMA; vfio counts its own as locked). Unknown is
 * "yes". */
static bool has_long_pins(void)
{
	char buf[4096];

	if (io_slurp("/proc/self/status", buf, sizeof(buf)) < 0)
		return true;
	return may_be_positive(buf, "VmPin:") || may_be_positive(buf, "VmLck:");
}

/* "flags:\t0140002": O_DIRECT, in octal. io_uring descriptors show themselves by other lines. */
static bool fd_can_pin(const char *name)
{
	char path[64] = "/proc/self/fdinfo/", buf[512];
	unsigned long flags = 0;
	const char *p;

	strncat(path, name, 20);
	if (io_slurp(path, buf, sizeof(buf)) < 0)
		return false; /* closed meanwhile */
	p = strstr(buf, "flags:");
	for (p = p ? p + 6 : ""; *p == ' ' || *p == '\t'; p++)
		;
	for (; *p >= '0' && *p <= '7'; p++)
		flags = flags * 8 + (unsigned long)(*p - '0');
	return (flags & O_DIRECT) || strstr(buf, "SqMask:");
}

struct dirent64 {
	uint64_t ino;
	int64_t off;
	uint16_t len;
	uint8_t type;
	char name[];
};

/* /proc/self is the thread group's, so this is the program's table and not the agent's. */
static bool has_direct_io(void)
{
	_Alignas(8) char buf[4096];
	long fd = sysc4(SYS_openat, AT_FDCWD, "/proc/self/fdinfo",
			O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	bool yes = fd < 0;
	int nr = 0;

	while (!yes) {
		long n = sysc3(SYS_getdents64, fd, buf, sizeof(buf));

		yes = n < 0;
		if (n <= 0)
			break;
		for (long at = 0; at < n && !yes; at += ((struct dirent64 *)(buf + at))->len) {
			const char *name = ((struct dirent64 *)(buf + at))->name;

			if (name[0] != '.')
				yes = ++nr > MAX_FDS || fd_can_pin(name);
		}
	}
	if (fd >= 0)
		sysc1(SYS_close, fd);
	return yes;
}

static void find_aio(void *arg, const struct maps_entry *e)
{
	if (!strncmp(e->name, "/[aio]", 6))
		*(bool *)arg = true;
}

/* Contexts of io_submit(2). The machine-wide count saves most processes the look at their maps. */
static bool has_aio(void)
{
	char buf[32];
	bool found = false;

	if (io_slurp("/proc/sys/fs/aio-nr", buf, sizeof(buf)) > 0 && buf[0] == '0')
		return false;
	return maps_walk(0, UINT64_MAX, find_aio, &found) < 0 || found;
}

bool hold_may_be_pinned(void)
{
	return has_long_pins() || has_direct_io() || has_aio();
}
