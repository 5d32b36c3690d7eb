/* SPDX-License-Identifier: MIT */
/*
 * memory.h - the calls of memory.c in the kernel's convention, for syscall(2).
 *
 * Each takes what the system call of its name takes and returns its result or -errno. An errno that
 * the kernel does not give for it is -ENOMEM: pages on frames could not be made private first.
 */
#ifndef KSM_PRELOAD_MEMORY_H
#define KSM_PRELOAD_MEMORY_H

#include <stddef.h>

long mem_madvise(void *addr, size_t len, int advice);
long mem_pkey_mprotect(void *addr, size_t len, int prot, int pkey);
long mem_process_madvise(int pidfd, const void *iov, size_t n, int advice, unsigned int flags);
long mem_vmsplice(int fd, const void *iov, size_t n, unsigned int flags);
long mem_ioctl(int fd, unsigned long request, void *arg);
/* nr: SYS_mlock or SYS_mlock2. */
long mem_lock(long nr, void *addr, size_t len, int flags);
long mem_lockall(int flags);
long mem_unlock(void *addr, size_t len);
long mem_unlockall(void);
long mem_bind(void *addr, unsigned long len, int mode, const unsigned long *mask,
	      unsigned long maxnode, unsigned int flags);
long mem_shmat(int id, const void *addr, int flags);

#endif
