/* SPDX-License-Identifier: MIT */
/* calls_ksm.c - see calls.h: a program that was ported to libksm. */
#include <errno.h>
#include <sys/mman.h>

#include "ksm.h"
#include "tests/torture/calls.h"

const bool calls_are_plain = false;

void *call_mmap(void *addr, size_t len, int flags)
{
	return ksm_mmap(addr, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1,
			0);
}

int call_munmap(void *addr, size_t len)
{
	return ksm_munmap(addr, len);
}

void *call_mremap(void *old, size_t old_len, size_t new_len, int flags, void *to)
{
	return ksm_mremap(old, old_len, new_len, flags, to);
}

int call_mprotect(void *addr, size_t len, int prot)
{
	return ksm_mprotect(addr, len, prot);
}

int call_madvise(void *addr, size_t len, int advice)
{
	return ksm_madvise(addr, len, advice);
}

int call_merge_any(bool enable)
{
	return ksm_merge_any(enable);
}

int call_stat(void)
{
	struct ksm_stat st = { .size = sizeof(st) };

	/* A daemon that is stopped does not answer. */
	return ksm_stat(&st) && errno != ETIMEDOUT ? -1 : 0;
}
