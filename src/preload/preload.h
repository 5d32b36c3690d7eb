/* SPDX-License-Identifier: MIT */
/*
 * preload.h - the settings of libksm-preload.so, and what every interposer is written with.
 *
 * The object stands in front of the C library for the calls that change an address space, start
 * a program or copy a process. Interposers run at any time: in the dynamic loader's aftermath
 * before any constructor, under the locks of whatever allocator the program brought, in signal
 * handlers, in a vfork child. So they use raw system calls and the client library (which has the
 * same rule), and no memory except their stack.
 *
 *	preload.c  the settings, read at the first interposed call
 *	memory.c   mmap and its family, brk, mlock, mbind, shmat
 *	process.c  fork, clone, prctl
 *	view.c     open and fopen: the program's own /proc/self/ksm_*
 *	thread.c   pthread_create: threads say when they are about to end
 *	rights.c   unshare, setns, capset, filters: with no agent beside
 *	unseen.c   code whose calls are not seen
 *	filter.c   whether a filter of system calls would let ours pass
 *	exec.c     exec and posix_spawn: the settings survive the program's own environment
 *	syscall.c  syscall(2), which reaches all of these by number
 *	malloc.c   malloc in the main heap, which is offered
 *	occasion.c the agent starts when there is a daemon at last
 *	large.c    large blocks of malloc have mappings of their own
 *	start.c    the constructor: malloc, the main heap, the agent
 */
#ifndef KSM_PRELOAD_H
#define KSM_PRELOAD_H

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "client/sysc.h"
#include "wire/label.h"

#define EXPORT __attribute__((visibility("default")))
/*
 * A second name of an exported function. The attribute "alias" wants equal attributes, and those
 * of the C library's declarations differ between its versions.
 */
#define EXPORT_ALIAS(name, of) __asm__(".globl " #name "\n\t.set " #name ", " #of)

/*
 * Pages of a mapping that is offered unasked. It costs the daemon a region and, once merged, the
 * process mappings of its own: below 64 KiB that is seldom worth it.
 */
#define PRELOAD_OFFER_MIN 16

enum preload_mode { PRELOAD_UNSET = 0, PRELOAD_OFF, PRELOAD_MADVISE, PRELOAD_AUTO };

struct preload {
	/* Set once by preload_setup(), at the first interposed call, before there are threads. */
	enum preload_mode wanted_mode; /* as the settings say */
	enum preload_mode mode;        /* as it is for this program */
	bool wanted_native_malloc;     /* the same for malloc */
	bool native_malloc;
	bool heap_when_asked; /* the heap is offered once the program asks for merging */
	bool respect_dontdump;
	char runtime_dir[PATH_MAX]; /* KSM_DIR_VAR, or empty */
	char view[PATH_MAX];        /* KSM_RUN_VIEW, or empty */
	char path[PATH_MAX];        /* of this object, for LD_PRELOAD; empty when it is not known */
	char domain[KSM_LABEL_SIZE]; /* KSM_DOMAIN at the start; empty: none */
};
extern struct preload preload;

void preload_setup_slow(void);
/* Value of a variable in the environment that the program was started with, or NULL. */
const char *initial_env(const char *name);

/* Every interposer that looks at the settings or calls the client library does this first. */
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

/* Turns the kernel's convention (result or -errno) into the C library's (-1 and errno). */
static inline long preload_ret(long r)
{
	if (!sysc_failed(r))
		return r;
	errno = (int)-r;
	return -1;
}

void *preload_next_slow(void **kept, const char *name);

/* Returns the same function further down the search order, and keeps its address in *kept. */
static inline void *preload_next(void **kept, const char *name)
{
	return __builtin_expect(*kept != NULL, 1) ? *kept : preload_next_slow(kept, name);
}

#endif
