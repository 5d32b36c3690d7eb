/* SPDX-License-Identifier: MIT */
/* calls_plain.c - see calls.h: a program that knows of nothing. */
#include <sys/mman.h>
#include <sys/prctl.h>

#include "tests/torture/calls.h"
#include "wire/kernel_abi.h"

const bool calls_are_plain = true;

void *call_mmap(void *addr, size_t len, int flags)
{
	return mmap(addr, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
}

int call_munmap(void *addr, size_t len)
{
	return munmap(addr, len);
}

void *call_mremap(void *old, size_t old_len, size_t new_len, int flags, void *to)
{
	return mremap(old, old_len, new_len, flags, to);
}

int call_mprotect(void *addr, size_t len, int prot)
{
	return mprotect(addr, len, prot);
}

int call_madvise(void *addr, size_t len, int advice)
{
	return madvise(addr, len, advice);
}

int call_merge_any(bool enable)
{
	return prctl(PR_SET_MEMORY_MERGE, enable, 0, 0, 0);
}

int call_stat(void)
{
	return prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0) < 0 ? -1 : 0;
}
