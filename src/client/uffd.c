/* SPDX-License-Identifier: MIT */
/*
 * uffd.c - the two userfaultfds of a client.
 *
 * The asynchronous one tracks changes: the kernel resolves write faults itself and PAGEMAP_SCAN
 * (in the daemon) collects and re-arms. The synchronous one is for the moments of a transaction in
 * which threads have to wait. A mapping can be in one of them at a time.
 *
 * Never UFFD_USER_MODE_ONLY: a system call that writes to a protected page would fail with EFAULT.
 *
 * Forks. fork(3) waits for the lock (pthread_atfork), but a raw clone(2) may copy the page tables
 * while pages stand in the staging area. With UFFD_FEATURE_EVENT_FORK the kernel gives such a
 * child a userfaultfd of its own over the same ranges: its threads wait, and the agent copies the
 * pages in before it lets them go. The feature needs CAP_SYS_PTRACE. Without it, raw clones that
 * copy the address space and that ksm-run's interposers do not see are a documented hazard.
 *
 * The kernel raises mmap_changing while such an event is not yet read, and UFFDIO_ZEROPAGE says so
 * with EAGAIN before it looks at anything else: that is the fence used here.
 */
#include "client/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "base/span.h"
#include "client/as.h"
#include "client/as_ranges.h"
#include "client/pageset.h"
#include "client/sysc.h"
#include "wire/kernel_abi.h"

static long uffd_new(int dev, uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	long fd = sysc3(SYS_ioctl, dev, KABI_USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	long r;

	if (fd < 0)
		return fd;
	r = sysc3(SYS_ioctl, fd, UFFDIO_API, &api);
	if (r < 0) {
		sysc1(SYS_close, fd);
		return r;
	}
	return fd;
}

#define SYNC_FEATURES                                                                              \
	(KABI_UFFD_FEATURE_MOVE | KABI_UFFD_FEATURE_WP_UNPOPULATED |                               \
	 UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM |                        \
	 UFFD_FEATURE_MISSING_SHMEM)

int uffd_open(struct kit *k, int dev)
{
	long fd;

	if (k->uffd_async < 0) {
		fd = uffd_new(dev, KABI_UFFD_FEATURE_WP_ASYNC | KABI_UFFD_FEATURE_WP_UNPOPULATED |
					   UFFD_FEATURE_PAGEFAULT_FLAG_WP |
					   UFFD_FEATURE_WP_HUGETLBFS_SHMEM);
		if (fd < 0)
			return (int)fd;
		k->uffd_async = (int)fd;
	}
	if (k->uffd_sync < 0) {
		k->event_fork = true;
		fd = uffd_new(dev, SYNC_FEATURES | UFFD_FEATURE_EVENT_FORK);
		if (fd == -EPERM) {
			k->event_fork = false;
			fd = uffd_new(dev, SYNC_FEATURES);
		}
		if (fd < 0)
			return (int)fd;
		k->uffd_sync = (int)fd;
	}
	return 0;
}

int uffd_register(int uffd, uint64_t start, uint64_t end, uint64_t mode)
{
	struct uffdio_register r = { .range = { start, end - start }, .mode = mode };

	return (int)sysc3(SYS_ioctl, uffd, UFFDIO_REGISTER, &r);
}

int uffd_unregister(int uffd, uint64_t start, uint64_t end)
{
	struct uffdio_range r = { start, end - start };

	return (int)sysc3(SYS_ioctl, uffd, UFFDIO_UNREGISTER, &r);
}

void uffd_release(const struct kit *k, uint64_t start, uint64_t end)
{
	/* Joining the mappings to their neighbours takes memory. No mapping has to be cut, so the
	 * limit to their number is not in the way, and this comes to an end. */
	while (uffd_unregister(k->uffd_sync, start, end) == -ENOMEM)
		sysc0(SYS_sched_yield);
	/*
	 * The kernel wakes before it unregisters. A fault that holds the lock of its mapping alone
	 * (Linux 6.7) may come between the two, and would wait for ever.
	 */
	uffd_wake(k->uffd_sync, start, end);
}

void uffd_wake(int uffd, uint64_t start, uint64_t end)
{
	struct uffdio_range r = { start, end - start };

	sysc3(SYS_ioctl, uffd, UFFDIO_WAKE, &r);
}

void uffd_track(const struct kit *k, uint64_t start, uint64_t end)
{
	for (const struct as_range *r = as_first(start); r && r->start < end; r = as_next(r)) {
		/* Refusals (EBUSY: the program has its own userfaultfd there) leave the range
		 * untracked; the daemon's scan skips it. */
		if (as_offered(r))
			uffd_register(k->uffd_async, u64_max(r->start, start), u64_min(r->end, end),
				      UFFDIO_REGISTER_MODE_WP);
	}
}

void uffd_give_way(const struct kit *k, uint64_t start, uint64_t end)
{
	for (const struct as_range *r = as_first(start); r && r->start < end; r = as_next(r)) {
		if (k->uffd_async >= 0 && r->left_out & 1u << KSM_LEFT_UFFD)
			uffd_unregister(k->uffd_async, u64_max(r->start, start),
					u64_min(r->end, end));
	}
}

/* Pages of a block that stand in the staging area. */
struct staged {
	uint64_t addr, moved;
	const uint8_t *staging;
};

/* Children of children that fork while their pages are missing: more wait for no copy. */
#define FAMILY_MAX 100
/* What a child with no memory for a copy of a page has to wait for is its own affair. */
#define COPY_TRIES 10000

static void serve_child(int child, const struct staged *st, int depth);

/* A child that forks waits until that event is read, and takes no page before. */
static void serve_grandchildren(int child, const struct staged *st, int depth)
{
	struct uffd_msg msg;

	while (depth < FAMILY_MAX && sysc3(SYS_read, child, &msg, sizeof(msg)) == sizeof(msg))
		if (msg.event == UFFD_EVENT_FORK)
			serve_child((int)msg.arg.fork.ufd, st, depth + 1);
}

/*
 * EEXIST, ENOENT: the child forked before the page was moved or after it was replaced, and has
 * what it needs. ENOMEM and EAGAIN pass. ESRCH: it is dead. A child that cannot be helped shall
 * not read zeros: it gets SIGBUS when it comes to the page.
 */
static void copy_in(int child, const struct staged *st, unsigned int i, int depth)
{
	uint64_t off = (uint64_t)i * KSM_PAGE_SIZE;
	struct uffdio_copy c = {
		.dst = st->addr + off,
		.src = (uintptr_t)st->staging + off,
		.len = KSM_PAGE_SIZE,
	};
	struct kabi_uffdio_poison poison = { .range = { c.dst, c.len } };

	for (int tries = 0; tries < COPY_TRIES; tries++) {
		if (!sysc_may_pass(sysc3(SYS_ioctl, child, UFFDIO_COPY, &c)))
			return;
		serve_grandchildren(child, st, depth);
		sysc0(SYS_sched_yield);
	}
	sysc3(SYS_ioctl, child, KABI_UFFDIO_POISON, &poison);
}

static void serve_child(int child, const struct staged *st, int depth)
{
	for (unsigned int i = 0; i < KSM_ORDER_PAGES; i++)
		if (st->moved & pageset_bit(i))
			copy_in(child, st, i, depth);
	serve_grandchildren(child, st, depth);
	/* Closing takes the child's memory out of userfaultfd and wakes its threads. */
	sysc1(SYS_close, child);
}

/* A page that is there by now: who waited for it does not notice. */
static void fill_hole(const struct kit *k, uint64_t addr)
{
	struct uffdio_zeropage zero = { .range = { addr - addr % KSM_PAGE_SIZE, KSM_PAGE_SIZE } };

	if (sysc3(SYS_ioctl, k->uffd_sync, UFFDIO_ZEROPAGE, &zero) == -EEXIST)
		uffd_wake(k->uffd_sync, zero.range.start, zero.range.start + KSM_PAGE_SIZE);
}

static void serve_messages(const struct kit *k, const struct staged *st, struct span holes)
{
	struct uffd_msg msg;

	while (sysc3(SYS_read, k->uffd_sync, &msg, sizeof(msg)) == sizeof(msg))
		if (msg.event == UFFD_EVENT_FORK)
			serve_child((int)msg.arg.fork.ufd, st, 0);
		else if (msg.event == UFFD_EVENT_PAGEFAULT &&
			 span_holds(holes, msg.arg.pagefault.address))
			fill_hole(k, msg.arg.pagefault.address);
}

void uffd_serve(const struct kit *k, uint64_t addr, uint64_t moved, const uint8_t *staging,
		struct span holes)
{
	const struct staged st = { addr, moved, staging };

	if (k->event_fork || !span_empty(holes))
		serve_messages(k, &st, holes);
	while (k->event_fork) {
		struct uffdio_zeropage fence = { .range = { 0, KSM_PAGE_SIZE } };

		if (sysc3(SYS_ioctl, k->uffd_sync, UFFDIO_ZEROPAGE, &fence) != -EAGAIN)
			return;
		sysc0(SYS_sched_yield);
		serve_messages(k, &st, holes);
	}
}

void uffd_serve_forks(const struct kit *k, uint64_t addr, uint64_t moved, const uint8_t *staging)
{
	uffd_serve(k, addr, moved, staging, (struct span){ 0, 0 });
}
