/* SPDX-License-Identifier: MIT */
/*
 * hold.c - hold a range of frame mappings still, and know what is in it.
 *
 * Memory that stands on frames cannot be moved away (UFFDIO_MOVE takes anonymous mappings only),
 * but it can be write-protected in the synchronous userfaultfd: readers go on, writers wait, forks
 * see everything. Frames themselves never change. So between hold_begin() and hold_end() the
 * contents are fixed, with one exception: a page that broke copy-on-write is a private page, and a
 * device may still be writing to it for an O_DIRECT read or an io_uring buffer that was pinned
 * before.
 *
 * The kernel offers no test for pins on such a page, so hold_may_be_pinned() asks whether the
 * process has any means of pinning at all. It cannot see another process in the middle of a
 * process_vm_writev(2), which pins for microseconds.
 */
#include "client/hold.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "client/as.h"
#include "client/io.h"
#include "client/maps.h"
#include "client/pageset.h"
#include "client/procdir.h"
#include "client/sysc.h"
#include "client/uffd.h"
#include "wire/kernel_abi.h"

/* More descriptors than this are not looked through while writers wait (3 us each). */
#define MAX_FDS 1000

int hold_begin(const struct kit *k, uint64_t start, uint64_t end)
{
	struct uffdio_writeprotect wp = {
		.range = { start, end - start },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	long r;

	uffd_unregister(k->uffd_async, start, end);
	r = uffd_register(k->uffd_sync, start, end, UFFDIO_REGISTER_MODE_WP);
	if (r < 0)
		return (int)r;
	while ((r = sysc3(SYS_ioctl, k->uffd_sync, UFFDIO_WRITEPROTECT, &wp)) == -EAGAIN)
		uffd_serve_forks(k, start, 0, k->staging);
	return (int)r;
}

void hold_end(const struct kit *k, uint64_t start, uint64_t end)
{
	uffd_release(k, start, end); /* this lifts the protection */
	/* A thread that forked meanwhile waits for its event to be read. Nothing was missing. */
	uffd_serve_forks(k, start, 0, k->staging);
}

/*
 * Find present pages that are not the file's. Everything else is a frame, touched or not, or a
 * private page that was swapped out, which nobody can have pinned. (Protecting an untouched frame
 * leaves a marker in its place that the scan calls swapped.)
 */
long hold_private(const struct kit *k, uint64_t start, uint64_t end,
		  struct kabi_page_region v[HOLD_MAX_PAGES])
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

	return sysc3(SYS_ioctl, k->pagemap, KABI_PAGEMAP_SCAN, &scan);
}

int hold_look(const struct kit *k, uint64_t start, uint64_t end, uint64_t *frames,
	      uint64_t *private)
{
	struct kabi_page_region v[KSM_ORDER_PAGES];
	struct kabi_pm_scan_arg scan = {
		.size = sizeof(scan),
		.start = start,
		.end = end,
		.vec = (uintptr_t)v,
		.vec_len = KSM_ORDER_PAGES,
		.category_mask = KABI_PAGE_IS_PRESENT,
		.return_mask = KABI_PAGE_IS_PRESENT | KABI_PAGE_IS_FILE,
	};
	long n = sysc3(SYS_ioctl, k->pagemap, KABI_PAGEMAP_SCAN, &scan);

	*frames = *private = 0;
	for (long i = 0; i < n; i++)
		*(v[i].categories & KABI_PAGE_IS_FILE ? frames : private) |=
			pageset_range((unsigned int)((v[i].start - start) / KSM_PAGE_SIZE),
				      (unsigned int)((v[i].end - start) / KSM_PAGE_SIZE));
	return n < 0 ? (int)n : 0;
}

uint64_t hold_frames_end(const struct kit *k, uint64_t start, uint64_t end)
{
	struct kabi_page_region v = { 0 };
	struct kabi_pm_scan_arg scan = {
		.size = sizeof(scan),
		.start = start,
		.end = end,
		.vec = (uintptr_t)&v,
		.vec_len = 1,
		.category_mask = KABI_PAGE_IS_PRESENT | KABI_PAGE_IS_FILE,
		.return_mask = KABI_PAGE_IS_PRESENT | KABI_PAGE_IS_FILE,
	};

	return sysc3(SYS_ioctl, k->pagemap, KABI_PAGEMAP_SCAN, &scan) == 1 && v.start == start ?
		       v.end :
		       start;
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

/*
 * Does the process have pages pinned for long (io_uring fixed buffers, RDMA)? vfio counts its own
 * as locked. "Unknown" means yes.
 */
static bool has_long_pins(void)
{
	char buf[4096];

	if (io_slurp("/proc/thread-self/status", buf, sizeof(buf)) < 0)
		return true;
	return may_be_positive(buf, "VmPin:") || may_be_positive(buf, "VmLck:");
}

/* Both are short: a directory of /proc, and the number of a thread or descriptor. */
static void join(char path[64], const char *dir, const char *name)
{
	strcpy(path, dir);
	strcat(path, "/");
	strncat(path, name, 12);
}

/* "flags:\t0140002" is octal. */
static bool is_direct(const char *fdinfo)
{
	const char *p = strstr(fdinfo, "flags:");
	unsigned long flags = 0;

	for (p = p ? p + 6 : ""; *p == ' ' || *p == '\t'; p++)
		;
	for (; *p >= '0' && *p <= '7'; p++)
		flags = flags * 8 + (unsigned long)(*p - '0');
	return flags & O_DIRECT;
}

/* Closed meanwhile, perhaps with its thread; else it cannot be told. */
static bool may_be_there(long err)
{
	return err != -ENOENT && err != -ESRCH;
}

/*
 * Can this descriptor pin memory? The kernel shows O_DIRECT in fdinfo alone, and for that it may
 * take a lock of the file's: that of an epoll instance belongs to whoever waits there for as long
 * as events are stored in his memory, and he waits for us if that is what is held here. Others of
 * its kind and devices have locks of their own. So only a file with a name is asked for more than
 * that, and no device other than a disk.
 */
static bool fd_can_pin(const char *dir, const char *name)
{
	char path[64], info[64], buf[512];
	struct stat st;
	long n;

	join(path, dir, name);
	n = sysc4(SYS_readlinkat, AT_FDCWD, path, buf, sizeof(buf) - 1);
	if (n < 0)
		return may_be_there(n);
	buf[n] = '\0';
	if (buf[0] != '/')
		return !strcmp(buf, "anon_inode:[io_uring]");
	if (!strncmp(buf, "/dev/", 5)) {
		n = sysc4(SYS_newfstatat, AT_FDCWD, path, &st, 0);
		if (n < 0 || S_ISCHR(st.st_mode))
			return n < 0 && may_be_there(n);
	}
	strcpy(info, dir);
	strcat(info, "info");
	join(path, info, name);
	n = io_slurp(path, buf, sizeof(buf));
	return n < 0 ? may_be_there(n) : is_direct(buf);
}

static bool look_at_fd(void *arg, const char *dir, const char *name)
{
	return ++*(int *)arg > MAX_FDS || fd_can_pin(dir, name);
}

struct tables {
	int32_t agent, first; /* the threads whose table does not count, or was looked at */
	bool seen_agent;
	int nr_fds;
};

/* Look at a thread's table unless it is the first's. (That may have ended: then it has none.) */
static bool look_at_table(void *arg, const char *tasks, const char *name)
{
	struct tables *t = arg;
	int32_t tid = procdir_number(name);
	char dir[64];

	t->seen_agent |= tid == t->agent;
	if (tid == t->agent ||
	    (tid != t->first && sysc5(SYS_kcmp, tid, t->first, KCMP_FILES, 0, 0) == 0))
		return false;
	join(dir, tasks, name);
	strcat(dir, "/fd");
	return procdir_any(dir, look_at_fd, &t->nr_fds);
}

/* Threads may have tables of their own, by unshare(CLONE_FILES), as the agent has. */
static bool has_direct_io(int32_t agent)
{
	struct tables t = { .agent = agent, .first = (int32_t)sysc0(SYS_getpid) };

	/* If the agent is not in the list, that is of another PID namespace, and says nothing. */
	return procdir_any("/proc/self/task", look_at_table, &t) || !t.seen_agent;
}

static void find_aio(void *arg, const struct maps_entry *e)
{
	if (!strncmp(e->name, "/[aio]", 6))
		*(bool *)arg = true;
}

/*
 * Are there contexts of io_submit(2)? Their rings are shared mappings of a file. The machine-wide
 * count saves most processes a look.
 */
static bool has_aio(const struct kit *k)
{
	char buf[32];
	bool found = false;

	if (io_slurp("/proc/sys/fs/aio-nr", buf, sizeof(buf)) > 0 && buf[0] == '0')
		return false;
	return maps_walk_shared(k->maps, find_aio, &found) < 0 || found;
}

bool hold_may_be_pinned(const struct kit *k)
{
	return has_long_pins() || has_direct_io(k->owner) || has_aio(k);
}
