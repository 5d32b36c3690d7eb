/* SPDX-License-Identifier: MIT */
/*
 * client.h - what the public API (ksm.c) and the preloaded object call inside the library.
 *
 * ksmc_mmap() and the rest of that family are the system calls of the same name by the raw
 * convention: they return the result, or a negative errno. On memory that the library does not
 * know they cost one table look-up. They order every change of the address space with the agent
 * thread, which replaces pages underneath the program; see as.h for the lock. ops.h says which
 * file defines what.
 */
#ifndef KSM_CLIENT_H
#define KSM_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ksm.h"
#include "wire/wire.h"

long ksmc_mmap(void *addr, size_t len, int prot, int flags, int fd, int64_t off);
long ksmc_munmap(void *addr, size_t len);
long ksmc_mremap(void *old, size_t old_len, size_t new_len, int flags, void *new_addr);
long ksmc_mprotect(void *addr, size_t len, int prot);
long ksmc_madvise(void *addr, size_t len, int advice);
long ksmc_mbind(void *addr, size_t len, int mode, const unsigned long *mask, unsigned long maxnode,
		unsigned int flags);
long ksmc_ioctl(int fd, unsigned long request, void *arg);
long ksmc_vmsplice(int fd, const struct iovec *iov, size_t nr, unsigned int flags);

long ksmc_merge(void *addr, size_t len, int timeout_ms);

/*
 * Offer policy for memory that nobody asked about (ksm-run): private anonymous mappings of at
 * least min_pages pages are offered as if madvised. 0 switches that off (the default).
 */
void ksmc_set_offer_policy(size_t min_pages);

/*
 * Which memory may a program offer by madvise that it did not map through the library? Under
 * ksm-run the C library or the loader mapped it, and they unmap it unseen. So none of it may be
 * offered, except the main heap where that has been made to grow only.
 */
enum ksmc_learn { KSMC_LEARN_ALL, KSMC_LEARN_HEAP, KSMC_LEARN_NONE };
void ksmc_set_learn(enum ksmc_learn learn);

/*
 * Starting a thread allocates. The caller of an interposed mmap may be an allocator with its locks
 * held, and so may the caller of fork while handlers run. After ksmc_defer_agent() the library
 * starts the agent only within ksmc_start_agent(), and there only when something is offered or a
 * policy says that it will be.
 */
void ksmc_defer_agent(void);
void ksmc_start_agent(void);
/*
 * When the calling thread leaves, and is the first, the agent ends for good: the C library would
 * take it for the last thread. Whoever lets another thread start the agent calls this before, in
 * the first; ksmc_start_agent() does by itself.
 */
void ksmc_mind_first_thread(void);
/*
 * The program has asked for merging itself, and may wait for it. So the agent connects without the
 * delay that spares short programs and children the connection, and this call returns when it has,
 * or could not, after 200 ms at most. Only the first call of a process waits.
 */
void ksmc_connect_at_once(void);

/*
 * The agent is a thread of the program, and has that thread's rights which started it. Around a
 * call that changes the rights of one thread, or that a process of one thread alone may make,
 * ksmc_step_aside() ends it, and ksmc_step_back() starts it again with the caller's rights if
 * `ended`, which is what ksmc_step_aside() returned.
 */
bool ksmc_step_aside(void);
void ksmc_step_back(bool ended);

/*
 * Each thread of the program calls the first when it begins, and the second when it is about to
 * end: leaving.c says why. ksmc_is_agent(): is the function at that address what the agent runs?
 */
void ksmc_thread_begins(void);
void ksmc_thread_ends(void);
bool ksmc_is_agent(uintptr_t thread);

/* Say where the daemon is; without this call the environment does, when the agent first starts. */
void ksmc_set_runtime_dir(const char *dir);

/*
 * The domain that the process asks for. ksmc_join() is ksm_join() without errno. ksmc_set_domain()
 * says it before the first use of the library, in the place of the environment; a name that is no
 * label keeps the process out of every domain. as_domain_get() copies what is in force.
 */
long ksmc_join(const char *domain);
void ksmc_set_domain(const char *domain);

/* PR_SET_MEMORY_MERGE and PR_GET_MEMORY_MERGE. Setting returns 0 or -ENOMEM. Getting takes no
 * lock, so a vfork child may do it. */
long ksmc_set_merge_any(bool enable);
bool ksmc_get_merge_any(void);

/*
 * Declare the main heap (brk) from the address `from` on: what is there is offered, and the agent
 * asks brk(0) from time to time and offers what was added. The second call does nothing. The caller
 * has made sure that nothing shrinks the heap behind the library's back.
 */
void ksmc_heap_offer(uint64_t from);
/* brk(2), for a program that moves the break by an interposed brk or sbrk. */
long ksmc_brk(void *addr);

/*
 * Leave a range out from now on, for `reason`, after un-sharing its pages; or take it back into
 * consideration. Pages outside of known memory are ignored. NULL with length 0 means all memory,
 * and later mappings, too (mlockall). Returns 0 or -ENOMEM.
 */
long ksmc_exclude(void *addr, size_t len, enum ksm_left_out reason);
void ksmc_include(void *addr, size_t len, enum ksm_left_out reason);

/*
 * Lock all that the program itself has mapped, as mlockall(2) would without the library: what the
 * library has mapped, and the object that it is in, is neither locked nor counted.
 * Context: everything is left out already (ksmc_exclude()). Returns 0, or -ENOMEM where that is
 * more than the limit, or what mlockall(2) says of MCL_FUTURE.
 */
long ksmc_lock_all(int flags, const void *object, size_t len);

/* prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME) of this range, as the kernel answers without frames. */
long ksmc_name(void *addr, size_t len, const char *to);
/* That call is forbidden from here on: what is given back stays without its name. */
void ksmc_name_no_more(void);

/* Does the agent run, or may it never run again? Has it run, here or in an ancestor's memory? */
bool ksmc_has_agent(void);
bool ksmc_had_agent(void);

/*
 * Have nothing more to do with this process: no agent, and from here on the wrappers do what the
 * system call of their name does, with no other call. All memory is un-shared for that. False: some
 * stands on frames still, or has been written there, so the wrappers go on to mind it.
 */
bool ksmc_give_up(void);

/*
 * From now on MADV_DONTDUMP excludes the range (KSM_LEFT_EXCLUDED), and MADV_DODUMP takes it back.
 * To be called before there are threads.
 */
void ksmc_respect_dontdump(void);

/* Call these around a fork that bypasses fork(3) and with it the pthread_atfork handlers. */
void ksmc_fork_prepare(void);
void ksmc_fork_parent(void);
void ksmc_fork_child(void);

/*
 * Call these around a copy that returns only when the child has gone (CLONE_VFORK without
 * CLONE_VM). Other threads go on as soon as the child runs.
 */
struct ksmc_vfork {
	uint64_t sigmask;
	uint32_t ticket;
};
void ksmc_vfork_prepare(struct ksmc_vfork *v);
void ksmc_vfork_parent(const struct ksmc_vfork *v);
void ksmc_vfork_child(const struct ksmc_vfork *v);

/* ksm_stat() without errno: 0, -EINVAL, -ENOMEM, -ETIMEDOUT. */
long ksmc_stat(struct ksm_stat *st);

#endif
