/* SPDX-License-Identifier: MIT */
/*
 * ksm.h - offer anonymous memory to ksmd-user for page deduplication.
 *
 * The functions mirror the system calls they replace, so that porting a program is a rename:
 * same arguments, same return values, same errno. Memory that has been offered must from then
 * on be changed (unmapped, moved, protected, advised) only through these functions, because the
 * library replaces pages underneath the program and has to order that with every change of the
 * address space. Plain loads, stores and system calls on the memory need nothing.
 *
 * All functions may be called from any thread and from signal handlers that may call munmap(2).
 * While no daemon runs they do what the system call does, and an offer takes effect when a daemon
 * appears. None of them waits for the daemon, except ksm_stat(), for two seconds at most,
 * ksm_merge(), for as long as it is told, and what takes an offer back (MADV_UNMERGEABLE,
 * ksm_merge_any(false)), until the daemon has heard of it: 0.1 ms, and 0.2 s of a second at most.
 */
#ifndef KSM_H
#define KSM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KSM_API __attribute__((visibility("default")))

/*
 * What the service does for this process. The struct may grow, so the program sets `size` to
 * sizeof(struct ksm_stat) before the call, and the library fills no more than that. Counts are in
 * pages of 4096 bytes, except where a field says otherwise, and mean what the kernel's KSM says in
 * /proc/PID/ksm_stat.
 */
struct ksm_stat {
	uint32_t size;          /* in: sizeof(struct ksm_stat) as the program was compiled */
	uint32_t connected;     /* 1 while a daemon serves this process */
	uint64_t rmap_items;    /* pages the daemon tracks */
	uint64_t zero_pages;    /* zero pages given back and still untouched */
	uint64_t merging_pages; /* pages that stand on a frame */
	int64_t process_profit; /* bytes saved less the metadata spent on this process */
	uint32_t merge_any;     /* ksm_merge_any() is on */
	uint32_t mergeable;     /* something is offered */
	/*
	 * The error for which a daemon that is there does not serve this process; 0: none. EACCES:
	 * the daemon serves only members of certain groups. EPERM: the process does not obey the
	 * daemon. Another user runs it or can write its directory: neither root, nor this user,
	 * nor the system's user for the daemon. EDOM: the operator does not let the process join
	 * the domain that it asks for. EINVAL: that is no name of a domain. ECANCELED: the process
	 * was released (ksmdctl release), and has not been told to join again. EPROTONOSUPPORT: the
	 * daemon is of another version than the library. Other errors are the daemon's own.
	 */
	uint32_t refused;
	uint32_t reserved; /* 0 */
};

/*
 * As madvise(2). MADV_MERGEABLE offers the range [addr, addr + length). MADV_UNMERGEABLE withdraws
 * it and un-shares it: when the call returns no page of the range stands on a frame. Both are
 * idempotent, and skip memory that cannot be merged with success. Any other advice has the effect
 * that it has on plain anonymous memory.
 *
 * Returns 0, or -1 with errno EINVAL (addr is not page aligned, or the advice is unknown), ENOMEM
 * (a part of the range is not mapped, and the rest is done; or memory ran out), or another error
 * of madvise(2).
 */
KSM_API int ksm_madvise(void *addr, size_t length, int advice);

/*
 * As mmap(2). The library offers private anonymous memory that is mapped with it while
 * ksm_merge_any(true) is in force. Returns the address, or MAP_FAILED with errno.
 */
KSM_API void *ksm_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset);

/* As munmap(2). Returns 0, or -1 with errno. */
KSM_API int ksm_munmap(void *addr, size_t length);

/*
 * As mremap(2), with the same flags; new_address counts only with MREMAP_FIXED. Returns the new
 * address, or MAP_FAILED with errno.
 */
KSM_API void *ksm_mremap(void *old_address, size_t old_size, size_t new_size, int flags,
			 void *new_address);

/* As mprotect(2). Returns 0, or -1 with errno. */
KSM_API int ksm_mprotect(void *addr, size_t length, int prot);

/*
 * As vmsplice(2). A pipe that was given pages refers to the pages themselves: its reader sees later
 * stores to them. Nothing tells the library of that reference. So the library un-shares pages that
 * go to a pipe, and leaves them out until the program offers them again with MADV_MERGEABLE.
 * Memory that went to a pipe by vmsplice(2) itself may be merged, and the reader then finds its
 * earlier bytes.
 *
 * Returns the number of bytes, or -1 with errno as there, ENOMEM also when memory ran out while
 * un-sharing.
 */
KSM_API ssize_t ksm_vmsplice(int fd, const struct iovec *iov, size_t nr_segs, unsigned int flags);

/*
 * Leave the range [addr, addr + length) out from now on, whatever is offered later, or take it back
 * into consideration. For contents that no neighbour is to learn of, not even that they exist:
 * keys, passwords. When the call returns no page of the range stands on a frame. A child of fork(2)
 * inherits it; unmapping ends it. The daemon counts the pages as left_out/excluded.
 *
 * Returns 0, or -1 with errno EINVAL (addr is not page aligned, or the range is none), or ENOMEM
 * (memory ran out while un-sharing, and the range is not excluded for certain).
 */
KSM_API int ksm_exclude(void *addr, size_t length, bool exclude);

/*
 * As prctl(PR_SET_MEMORY_MERGE): offer (or withdraw and un-share) everything that was or will be
 * mapped with ksm_mmap(). A child of fork(2) inherits it. Returns 0, or -1 with errno ENOMEM, and
 * then the next call with the same argument tries again.
 */
KSM_API int ksm_merge_any(bool enable);

/*
 * Ask for the domain of this name: share pages with the processes in it and with no others. Whoever
 * is in a domain can read every page that is shared there. The operator says who may join which
 * domain; where this process may not, it runs unmerged (ksm_stat: refused is EDOM). NULL or "" asks
 * for no domain: the daemon then chooses, by user as a rule. Without a call the environment asks,
 * KSM_DOMAIN. Inherited by fork(2); over execve(2) it is KSM_DOMAIN that is inherited.
 *
 * A process leaves the domain in which it is before it joins another: when the call returns, no
 * page stands on a frame of the domain before.
 * Returns 0, or -1 with errno EINVAL (no name: 1 to 31 characters of a-z, A-Z, 0-9, '.', '_', '-',
 * the first a letter or a digit) or ENOMEM (some pages still stand on frames; it leaves all the
 * same).
 */
KSM_API int ksm_join(const char *domain);

/*
 * Offer the range [addr, addr + length) as MADV_MERGEABLE does, and wait until it has been merged:
 * when the call returns 0 the daemon has compared every page of it that has not been written since
 * the call began, and those that have a like stand on frames. Other threads go on meanwhile.
 *
 * Returns 0, or -1 with errno as ksm_madvise(); or ETIMEDOUT (not within timeout_ms milliseconds;
 * it goes on in the background), ENOTCONN (no daemon serves this process, or it ended), EAGAIN (the
 * daemon does not merge at present: `run` is not 1), EINVAL (also a negative timeout), or the error
 * that ksm_stat() shows as `refused`. The range is offered in all of these cases but EINVAL.
 */
KSM_API int ksm_merge(void *addr, size_t length, int timeout_ms);

/*
 * Fill *st. Returns 0 (with connected = 0 and zero counts when no daemon serves this process), or
 * -1 with errno EINVAL (st is NULL, or its size too small), ENOMEM, or ETIMEDOUT (the daemon did
 * not answer within two seconds; it may be stopped).
 */
KSM_API int ksm_stat(struct ksm_stat *st);

#ifdef __cplusplus
}
#endif
#endif
