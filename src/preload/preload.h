/* SPDX-License-Identifier: MIT */
/*
 * preload.h - inside of libksm-preload.so.
 *
 * The object stands in front of the C library for the calls that change an address space, start
 * a program or copy a process. Interposers run at any time: in the dynamic loader's aftermath
 * before any constructor, under the locks of whatever allocator the program brought, in signal
 * handlers, in a vfork child. So they use raw system calls and the client library (which has the
 * same rule), and no memory but their stack.
 *
 *	memory.c   mmap and its family, brk, mlock, mbind, shmat
 *	process.c  fork, clone, prctl
 *	exec.c     exec and posix_spawn: the settings survive the program's own environment
 *	syscall.c  syscall(2), which reaches all of these by number
 *	setup.c    settings, start-up, malloc
 */
#ifndef KSM_PRELOAD_H
#define KSM_PRELOAD_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

#include "client/sysc.h"

#define EXPORT __attribute__((visibility("default")))
/* A second name of an exported function. (The attribute "alias" wants equal attributes, and those
 * of the C library's declarations differ between its versions.) */
#define EXPORT_ALIAS(name, of) __asm__(".globl " #name "\n\t.set " #name ", " #of)

enum preload_mode { PRELOAD_UNSET = 0, PRELOAD_OFF, PRELOAD_MADVISE, PRELOAD_AUTO };

struct preload {
	/* Set once by preload_setup(), at the first interposed call, while there is one thread. */
	enum preload_mode wanted_mode; /* as the settings say */
	enum preload_mode mode;        /* as it is for this program */
	bool native_malloc;
	char runtime_dir[4096]; /* KSMD_RUNTIME_DIR, or empty */
	char path[4096];        /* of this object, for LD_PRELOAD; empty when it is not known */
};
extern struct preload preload;

void preload_setup_slow(void);
const char *initial_env(const char *name);

/* First statement of every interposer that looks at the settings or calls the client library. */
static inline void preload_setup(void)
{
	if (__builtin_expect(preload.mode == PRELOAD_UNSET, 0))
		preload_setup_slow();
}

/* May calls be handed to the client library? */
static inline bool preload_active(void)
{
	preload_setup();
	return preload.mode != PRELOAD_OFF;
}

/* The C library's convention from the kernel's. */
static inline long preload_ret(long r)
{
	if (!sysc_failed(r))
		return r;
	errno = (int)-r;
	return -1;
}

/* The same function further down the search order; the address is kept in *slot. */
void *preload_next(void **slot, const char *name);

/* Kernel convention (result or -errno), for the interposers and syscall(2) alike. */
long mem_madvise(void *addr, size_t len, int advice);
long mem_pkey_mprotect(void *addr, size_t len, int prot, int pkey);
long mem_process_madvise(int pidfd, const void *iov, size_t n, int advice, unsigned int flags);
long mem_vmsplice(int fd, const void *iov, size_t n, unsigned int flags);
long mem_lock(long nr, void *addr, size_t len, int flags);
long mem_lockall(int flags);
long mem_unlock(void *addr, size_t len);
long mem_unlockall(void);
long mem_bind(void *addr, unsigned long len, int mode, const unsigned long *mask,
	      unsigned long maxnode, unsigned int flags);
long mem_shmat(int id, const void *addr, int flags);
long proc_prctl(int op, unsigned long a, unsigned long b, unsigned long c, unsigned long d);
/* What a clone does to the address space: nothing to us, a copy, a copy and a wait for the child. */
enum copy_kind { COPY_NONE, COPY, COPY_AND_WAIT };
long proc_clone(long nr, long a, long b, long c, long d, long e, enum copy_kind kind);
long proc_execve(const char *path, char *const argv[], char *const envp[]);
long proc_execveat(int dir, const char *path, char *const argv[], char *const envp[], int flags);

/* Look the C library's functions up before somebody needs them where that is not allowed. */
void process_resolve(void);
void exec_resolve(void);

#endif
