/* SPDX-License-Identifier: MIT */
/*
 * memory.c - the calls that change an address space, handed to the client library.
 *
 * The library offers memory that is mapped private and anonymous, PRELOAD_OFFER_MIN pages or
 * more at a time, and not as a stack, locked or huge; protection may change later. It does not
 * carry out locking, protection keys and System V segments that are mapped over
 * something. For these an interposer here has the range un-shared and left out before it asks the
 * kernel.
 *
 * Not here: remap_file_pages(2), which the kernel refuses on private mappings, and shmdt(2), which
 * takes away what only shmat(2) can have mapped.
 */
#include "preload/memory.h"

#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "client/client.h"
#include "client/user.h"
#include "preload/malloc.h"
#include "preload/occasion.h"
#include "preload/preload.h"
#include "preload/unseen.h"
#include "wire/abi.h"
#include "wire/kernel_abi.h"

#define PIDFD_SELF_THREAD_FD (-10000) /* linux/pidfd.h since 6.14 */
#define PIDFD_SELF_PROCESS_FD (-10001)

/* ---- mapping ---- */

EXPORT void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	bool counts = (flags & MAP_ANONYMOUS) && (flags & MAP_TYPE) == MAP_PRIVATE;
	void *p;

	if (!preload_active())
		return (void *)preload_ret(
			sysc6(SYS_mmap, (long)addr, (long)len, prot, flags, fd, off));
	if (counts)
		occasion_map(len);
	p = (void *)preload_ret(ksmc_mmap(addr, len, prot, flags, fd, off));
	if (!counts || p == MAP_FAILED)
		return p;
	if (len >= PRELOAD_OFFER_MIN * (size_t)KSM_PAGE_SIZE &&
	    unseen_calls_in(__builtin_return_address(0)))
		ksmc_exclude(p, len, KSM_LEFT_EXCLUDED);
	occasion_in_mmap();
	return p;
}

EXPORT_ALIAS(mmap64, mmap);

EXPORT int munmap(void *addr, size_t len)
{
	return (int)preload_ret(ksmc_munmap(addr, len));
}

EXPORT void *mremap(void *old, size_t old_len, size_t new_len, int flags, ...)
{
	void *to = NULL;
	va_list ap;

	if (flags & MREMAP_FIXED) {
		va_start(ap, flags);
		to = va_arg(ap, void *);
		va_end(ap);
	}
	return (void *)preload_ret(ksmc_mremap(old, old_len, new_len, flags, to));
}

EXPORT int mprotect(void *addr, size_t len, int prot)
{
	return (int)preload_ret(ksmc_mprotect(addr, len, prot));
}

/*
 * Memory with a key is left out, because the agent would need the right to it. Memory that was
 * never given a key has key 0.
 */
long mem_pkey_mprotect(void *addr, size_t len, int prot, int pkey)
{
	long r;

	if (pkey == -1 || !preload_active())
		return pkey == -1 ? ksmc_mprotect(addr, len, prot) :
				    sysc4(SYS_pkey_mprotect, addr, len, prot, pkey);
	if (pkey > 0) {
		r = ksmc_exclude(addr, len, KSM_LEFT_PKEY);
		if (r)
			return r;
	}
	r = sysc4(SYS_pkey_mprotect, addr, len, prot, pkey);
	if (!r) {
		/* The kernel has it already; the library learns the protection. */
		ksmc_mprotect(addr, len, prot);
		if (pkey == 0)
			ksmc_include(addr, len, KSM_LEFT_PKEY);
	}
	return r;
}

EXPORT int pkey_mprotect(void *addr, size_t len, int prot, int pkey)
{
	return (int)preload_ret(mem_pkey_mprotect(addr, len, prot, pkey));
}

/* ---- advice ---- */

/* A request for merging starts the agent where there was nothing to do before. */
long mem_madvise(void *addr, size_t len, int advice)
{
	long r;

	if (!preload_active())
		return sysc3(SYS_madvise, addr, len, advice);
	r = ksmc_madvise(addr, len, advice);
	if (advice == MADV_MERGEABLE) {
		if (preload.heap_when_asked)
			malloc_offer_heap();
		ksmc_start_agent();
		ksmc_connect_at_once();
	}
	return r;
}

EXPORT int madvise(void *addr, size_t len, int advice)
{
	return (int)preload_ret(mem_madvise(addr, len, advice));
}

/* Returns the error itself. DONTNEED does nothing, because by POSIX it must not lose data. */
EXPORT int posix_madvise(void *addr, size_t len, int advice)
{
	if (advice == POSIX_MADV_DONTNEED)
		return 0;
	return (int)-mem_madvise(addr, len, advice);
}

/* Does the descriptor name this process? */
static bool pidfd_is_self(int pidfd)
{
	char path[64], buf[512];
	const char *p;
	long fd, n, pid;

	if (pidfd == PIDFD_SELF_THREAD_FD || pidfd == PIDFD_SELF_PROCESS_FD)
		return true;
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
	fd = sysc4(SYS_openat, AT_FDCWD, path, 0, 0);
	if (fd < 0)
		return false;
	n = sysc3(SYS_read, fd, buf, sizeof(buf) - 1);
	sysc1(SYS_close, fd);
	buf[n > 0 ? n : 0] = '\0';
	p = strstr(buf, "\nPid:\t");
	return p && sscanf(p, "\nPid:\t%ld", &pid) == 1 && pid == sysc0(SYS_getpid);
}

long mem_process_madvise(int pidfd, const void *iovec, size_t n, int advice, unsigned int flags)
{
	const struct iovec *iov = iovec;
	long done = 0, r;

	if (!preload_active() || flags || n > IOV_MAX || !pidfd_is_self(pidfd) ||
	    !user_range(iov, n * sizeof(*iov)))
		return sysc5(SYS_process_madvise, pidfd, iov, n, advice, flags);
	for (size_t i = 0; i < n; i++) {
		r = mem_madvise(iov[i].iov_base, iov[i].iov_len, advice);
		if (r)
			return done ? done : r;
		done += (long)iov[i].iov_len;
	}
	return done;
}

EXPORT ssize_t process_madvise(int pidfd, const struct iovec *iov, size_t n, int advice,
			       unsigned int flags)
{
	return preload_ret(mem_process_madvise(pidfd, iov, n, advice, flags));
}

/* ---- userfaultfd ---- */

long mem_ioctl(int fd, unsigned long request, void *arg)
{
	if (!preload_active())
		return sysc3(SYS_ioctl, fd, request, arg);
	return ksmc_ioctl(fd, request, arg);
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	return (int)preload_ret(mem_ioctl(fd, request, arg));
}

/* ---- pipes ---- */

long mem_vmsplice(int fd, const void *iov, size_t n, unsigned int flags)
{
	if (!preload_active())
		return sysc4(SYS_vmsplice, fd, iov, n, flags);
	return ksmc_vmsplice(fd, iov, n, flags);
}

EXPORT ssize_t vmsplice(int fd, const struct iovec *iov, size_t n, unsigned int flags)
{
	return preload_ret(mem_vmsplice(fd, iov, n, flags));
}

/* ---- the main heap ---- */

/* The C library's idea of the break, which its own malloc goes by. */
extern void *__curbrk;

EXPORT int brk(void *addr)
{
	__curbrk = (void *)(preload_active() ? ksmc_brk(addr) : sysc1(SYS_brk, addr));
	if (__curbrk >= addr)
		return 0;
	errno = ENOMEM;
	return -1;
}

EXPORT void *sbrk(intptr_t increment)
{
	char *old;

	if (!__curbrk)
		brk(NULL);
	old = __curbrk;
	if (increment == 0)
		return old;
	if (increment > 0 ? (uintptr_t)old + (uintptr_t)increment < (uintptr_t)old :
			    (uintptr_t)old < -(uintptr_t)increment) {
		errno = ENOMEM;
		return (void *)-1;
	}
	return brk(old + increment) < 0 ? (void *)-1 : old;
}

EXPORT_ALIAS(__sbrk, sbrk);

/* ---- locking ---- */

/* Rounds the range as the kernel does. Returns false where it would refuse or nothing is in it. */
static bool whole_pages(void **addr, size_t *len)
{
	uintptr_t start = page_down((uintptr_t)*addr);
	uintptr_t end = page_up((uintptr_t)*addr + *len);

	if (!*len || end <= start)
		return false;
	*addr = (void *)start;
	*len = end - start;
	return true;
}

/* Locked memory is private memory, because a program that locks wants no fault on a write. */
long mem_lock(long nr, void *addr, size_t len, int flags)
{
	void *start = addr;
	size_t size = len;
	long r;

	if (preload_active() && whole_pages(&start, &size)) {
		r = ksmc_exclude(start, size, KSM_LEFT_MLOCKED);
		if (r)
			return r;
	}
	r = sysc3(nr, addr, len, flags);
	if (r && preload_active())
		ksmc_include(start, size, KSM_LEFT_MLOCKED);
	return r;
}

long mem_unlock(void *addr, size_t len)
{
	long r = sysc2(SYS_munlock, addr, len);

	if (!r && preload_active() && whole_pages(&addr, &len))
		ksmc_include(addr, len, KSM_LEFT_MLOCKED);
	return r;
}

/* Where this object begins and ends, its zeroed data included: from the linker. */
extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char _end[] __attribute__((visibility("hidden")));

/* With MCL_FUTURE alone memory that exists is left out, too: no harm, and one case less. */
long mem_lockall(int flags)
{
	long r;

	if (preload_active()) {
		r = flags & MCL_FUTURE ? ksmc_exclude(NULL, 0, KSM_LEFT_MLOCKED) :
					 ksmc_exclude(NULL, KSM_ADDR_END, KSM_LEFT_MLOCKED);
		if (r)
			return r;
	}
	r = sysc1(SYS_mlockall, flags);
	/* The limit may be for what the program has mapped without us. */
	if (r == -ENOMEM && (flags & MCL_CURRENT) && preload_active())
		r = ksmc_lock_all(flags, __ehdr_start, (size_t)(_end - __ehdr_start));
	if (r && preload_active())
		ksmc_include(NULL, 0, KSM_LEFT_MLOCKED);
	return r;
}

long mem_unlockall(void)
{
	long r = sysc0(SYS_munlockall);

	if (!r && preload_active())
		ksmc_include(NULL, 0, KSM_LEFT_MLOCKED);
	return r;
}

EXPORT int mlock(const void *addr, size_t len)
{
	return (int)preload_ret(mem_lock(SYS_mlock, (void *)addr, len, 0));
}

EXPORT int mlock2(const void *addr, size_t len, unsigned int flags)
{
	return (int)preload_ret(
		mem_lock(flags ? SYS_mlock2 : SYS_mlock, (void *)addr, len, (int)flags));
}

EXPORT int munlock(const void *addr, size_t len)
{
	return (int)preload_ret(mem_unlock((void *)addr, len));
}

EXPORT int mlockall(int flags)
{
	return (int)preload_ret(mem_lockall(flags));
}

EXPORT int munlockall(void)
{
	return (int)preload_ret(mem_unlockall());
}

/* ---- memory policy ---- */

long mem_bind(void *addr, unsigned long len, int mode, const unsigned long *mask,
	      unsigned long maxnode, unsigned int flags)
{
	if (!preload_active())
		return sysc6(SYS_mbind, (long)addr, (long)len, mode, (long)mask, (long)maxnode,
			     flags);
	return ksmc_mbind(addr, len, mode, mask, maxnode, flags);
}

EXPORT long mbind(void *addr, unsigned long len, int mode, const unsigned long *mask,
		  unsigned long maxnode, unsigned int flags)
{
	return preload_ret(mem_bind(addr, len, mode, mask, maxnode, flags));
}

/* ---- System V segments ---- */

/*
 * Only SHM_REMAP replaces mappings. The library must give up what stands there first. So attach
 * elsewhere beforehand, which shows whether the segment can be had at all.
 */
long mem_shmat(int id, const void *addr, int flags)
{
	struct shmid_ds ds;
	long r;

	if (!(flags & SHM_REMAP) || !addr || !preload_active())
		return sysc3(SYS_shmat, id, addr, flags);
	if (shmctl(id, IPC_STAT, &ds) != 0)
		return -errno;
	r = sysc3(SYS_shmat, id, NULL, flags & ~SHM_REMAP);
	if (sysc_failed(r))
		return r;
	sysc1(SYS_shmdt, r);
	if (flags & SHM_RND)
		addr = (void *)((uintptr_t)addr & ~(uintptr_t)(SHMLBA - 1));
	r = ksmc_munmap((void *)addr, ds.shm_segsz);
	return r ? r : sysc3(SYS_shmat, id, addr, flags);
}

EXPORT void *shmat(int id, const void *addr, int flags)
{
	return (void *)preload_ret(mem_shmat(id, addr, flags));
}
