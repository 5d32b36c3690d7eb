/* SPDX-License-Identifier: MIT */
/*
 * syscall.c - syscall(2): programs that go round the C library's functions still meet ours.
 *
 * Numbers that concern an address space, a copy of the process or a new program take the same
 * path as the functions; all others go to the kernel as they are. All six arguments are read
 * whether or not the caller passed them, which the calling conventions of both architectures allow:
 * that is how the C library does it.
 *
 * A child of clone(2) that is given a stack of its own cannot return from a C function; it cannot
 * usefully return from the C library's syscall() either, and nobody does this.
 */
#include "preload/preload.h"

#include <linux/sched.h>
#include <linux/seccomp.h>
#include <stdint.h>

#include "client/client.h"
#include "client/user.h"
#include "preload/exec.h"
#include "preload/memory.h"
#include "preload/process.h"
#include "preload/rights.h"

static enum copy_kind kind_of_clone(unsigned long flags, unsigned long stack)
{
	if ((flags & CLONE_VM) || stack)
		return COPY_NONE;
	return flags & CLONE_VFORK ? COPY_AND_WAIT : COPY;
}

static long sys_clone3(long nr, const struct clone_args *args, size_t size)
{
	bool sane = size >= CLONE_ARGS_SIZE_VER0 && user_range(args, CLONE_ARGS_SIZE_VER0);

	return proc_clone(nr, (long)args, (long)size, 0, 0, 0,
			  sane ? kind_of_clone(args->flags, args->stack) : COPY_NONE);
}

/* Copies and new programs. Returns false when nr is none of them. */
static bool process_call(long nr, const long a[static 6], long *r)
{
	switch (nr) {
#ifdef SYS_fork
	case SYS_fork:
		*r = proc_clone(nr, 0, 0, 0, 0, 0, COPY);
		return true;
#endif
	case SYS_clone:
		*r = proc_clone(nr, a[0], a[1], a[2], a[3], a[4],
				kind_of_clone((unsigned long)a[0], (unsigned long)a[1]));
		return true;
	case SYS_clone3:
		*r = sys_clone3(nr, (const struct clone_args *)a[0], (size_t)a[1]);
		return true;
	case SYS_execve:
		*r = proc_execve((const char *)a[0], (char *const *)a[1], (char *const *)a[2]);
		return true;
	case SYS_execveat:
		*r = proc_execveat((int)a[0], (const char *)a[1], (char *const *)a[2],
				   (char *const *)a[3], (int)a[4]);
		return true;
	case SYS_prctl:
		*r = proc_prctl((int)a[0], (unsigned long)a[1], (unsigned long)a[2],
				(unsigned long)a[3], (unsigned long)a[4]);
		return true;
	default:
		return false;
	}
}

/* Mappings and what is done to them. */
static bool memory_call(long nr, const long a[static 6], long *r)
{
	void *addr = (void *)a[0];
	size_t len = (size_t)a[1];

	switch (nr) {
	case SYS_mmap:
		*r = ksmc_mmap(addr, len, (int)a[2], (int)a[3], (int)a[4], a[5]);
		return true;
	case SYS_munmap:
		*r = ksmc_munmap(addr, len);
		return true;
	case SYS_mremap:
		*r = ksmc_mremap(addr, len, (size_t)a[2], (int)a[3], (void *)a[4]);
		return true;
	case SYS_mprotect:
		*r = ksmc_mprotect(addr, len, (int)a[2]);
		return true;
	case SYS_pkey_mprotect:
		*r = mem_pkey_mprotect(addr, len, (int)a[2], (int)a[3]);
		return true;
	case SYS_madvise:
		*r = mem_madvise(addr, len, (int)a[2]);
		return true;
	case SYS_brk:
		*r = ksmc_brk(addr);
		return true;
	case SYS_mbind:
		*r = mem_bind(addr, len, (int)a[2], (const unsigned long *)a[3],
			      (unsigned long)a[4], (unsigned int)a[5]);
		return true;
	case SYS_shmat:
		*r = mem_shmat((int)a[0], (const void *)a[1], (int)a[2]);
		return true;
	case SYS_ioctl:
		*r = mem_ioctl((int)a[0], (unsigned long)a[1], (void *)a[2]);
		return true;
	case SYS_vmsplice:
		*r = mem_vmsplice((int)a[0], (const void *)a[1], (size_t)a[2], (unsigned int)a[3]);
		return true;
	case SYS_process_madvise:
		*r = mem_process_madvise((int)a[0], (const void *)a[1], (size_t)a[2], (int)a[3],
					 (unsigned int)a[4]);
		return true;
	default:
		return false;
	}
}

/*
 * What one thread may do. These are raw: the C library would have told all threads of setuid. The
 * first thread that exits leaves a process that ends with its last one.
 */
static bool rights_call_by_number(long nr, const long a[static 6], long *r)
{
	switch (nr) {
	case SYS_unshare:
		*r = rights_unshare((int)a[0]);
		return true;
	case SYS_exit:
		if (!preload_active())
			return false;
		if (sysc0(SYS_gettid) == sysc0(SYS_getpid))
			ksmc_step_aside();
		else
			ksmc_thread_ends();
		return false;
	case SYS_seccomp:
		if (a[0] != SECCOMP_SET_MODE_STRICT && a[0] != SECCOMP_SET_MODE_FILTER)
			return false;
		*r = rights_filter(nr, a[0], a[1], a[2], 0, 0, (const void *)a[2]);
		return true;
	case SYS_setns:
	case SYS_capset:
	case SYS_setuid:
	case SYS_setgid:
	case SYS_setreuid:
	case SYS_setregid:
	case SYS_setresuid:
	case SYS_setresgid:
	case SYS_setgroups:
	case SYS_setfsuid:
	case SYS_setfsgid:
	case SYS_landlock_restrict_self:
		*r = rights_call(nr, a[0], a[1], a[2], a[3], a[4]);
		return true;
	default:
		return false;
	}
}

static bool lock_call(long nr, const long a[static 6], long *r)
{
	switch (nr) {
	case SYS_mlock:
	case SYS_mlock2:
		*r = mem_lock(nr, (void *)a[0], (size_t)a[1], (int)a[2]);
		return true;
	case SYS_munlock:
		*r = mem_unlock((void *)a[0], (size_t)a[1]);
		return true;
	case SYS_mlockall:
		*r = mem_lockall((int)a[0]);
		return true;
	case SYS_munlockall:
		*r = mem_unlockall();
		return true;
	default:
		return false;
	}
}

/* unistd.h declares it variadic, so it is defined by another name and exported by this one. */
EXPORT long preload_syscall(long nr, long a0, long a1, long a2, long a3, long a4,
			    long a5) __asm__("syscall");

EXPORT long preload_syscall(long nr, long a0, long a1, long a2, long a3, long a4, long a5)
{
	const long a[6] = { a0, a1, a2, a3, a4, a5 };
	long r;

	if (preload_active() && (memory_call(nr, a, &r) || lock_call(nr, a, &r) ||
				 process_call(nr, a, &r) || rights_call_by_number(nr, a, &r)))
		return preload_ret(r);
	return preload_ret(sysc6(nr, a0, a1, a2, a3, a4, a5));
}
