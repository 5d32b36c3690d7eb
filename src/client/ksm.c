/* SPDX-License-Identifier: MIT */
/* ksm.c - the public functions: the raw convention of client.h turned into errno. */
#include "ksm.h"

#include <errno.h>
#include <sys/mman.h>

#include "client/client.h"
#include "client/sysc.h"
#include "wire/abi.h"

static long to_errno(long r)
{
	if (!sysc_failed(r))
		return r;
	errno = (int)-r;
	return -1;
}

int ksm_madvise(void *addr, size_t length, int advice)
{
	long r = ksmc_madvise(addr, length, advice);

	if (advice == MADV_MERGEABLE)
		ksmc_connect_at_once();
	return (int)to_errno(r);
}

void *ksm_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
	return (void *)to_errno(ksmc_mmap(addr, length, prot, flags, fd, offset));
}

int ksm_munmap(void *addr, size_t length)
{
	return (int)to_errno(ksmc_munmap(addr, length));
}

void *ksm_mremap(void *old_address, size_t old_size, size_t new_size, int flags, void *new_address)
{
	return (void *)to_errno(ksmc_mremap(old_address, old_size, new_size, flags, new_address));
}

int ksm_mprotect(void *addr, size_t length, int prot)
{
	return (int)to_errno(ksmc_mprotect(addr, length, prot));
}

ssize_t ksm_vmsplice(int fd, const struct iovec *iov, size_t nr_segs, unsigned int flags)
{
	return to_errno(ksmc_vmsplice(fd, iov, nr_segs, flags));
}

int ksm_exclude(void *addr, size_t length, bool exclude)
{
	uint64_t start = (uintptr_t)addr, end = start + length;

	if (start % KSM_PAGE_SIZE || end < start || end > KSM_ADDR_END)
		return (int)to_errno(-EINVAL);
	if (!length)
		return 0;
	if (exclude)
		return (int)to_errno(ksmc_exclude(addr, length, KSM_LEFT_EXCLUDED));
	ksmc_include(addr, length, KSM_LEFT_EXCLUDED);
	return 0;
}

int ksm_merge_any(bool enable)
{
	long r = ksmc_set_merge_any(enable);

	if (enable)
		ksmc_connect_at_once();
	return (int)to_errno(r);
}

int ksm_join(const char *domain)
{
	return (int)to_errno(ksmc_join(domain));
}

int ksm_stat(struct ksm_stat *st)
{
	return (int)to_errno(ksmc_stat(st));
}

int ksm_merge(void *addr, size_t length, int timeout_ms)
{
	return (int)to_errno(ksmc_merge(addr, length, timeout_ms));
}
