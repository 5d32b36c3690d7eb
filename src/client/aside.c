/* SPDX-License-Identifier: MIT */
/*
 * aside.c - see aside.h.
 *
 * Advice on forks and core dumps must hold at every instant: mmap(MAP_FIXED) and the advice after
 * it would let a fork in between have the memory. So the mapping is made where nobody looks for it,
 * is advised there, and is moved into place by mremap(), which keeps the advice.
 *
 * A core dump holds private memory and, of private mappings of a file, those that have had an
 * anon_vma, which the kernel makes for the first private page. Frames would be missing in it. So
 * one page is written aside and given back; the anon_vma stays. The kernel joins two mappings only
 * where they have the same anon_vma or one of them has none. So frames that continue a mapping of
 * frames get none: they become part of that mapping, which has one.
 */
#include "client/aside.h"

#include <errno.h>
#include <sys/mman.h>

#include "client/as_advice.h"
#include "client/as_frames.h"
#include "client/maps.h"
#include "client/sysc.h"
#include "wire/kernel_abi.h"

/*
 * Is there a mapping of the arena at addr in which `frame` would stand there? Linux 6.11 can say so
 * without the text of all mappings; before that the answer is no.
 */
static bool continues(const struct kit *k, uint64_t addr, uint64_t frame) NEEDS(as.lock)
{
	struct kabi_procmap_query q = { .size = sizeof(q), .query_addr = addr };

	if (!as_frame_bit(addr) || sysc3(SYS_ioctl, k->maps, KABI_PROCMAP_QUERY, &q))
		return false;
	return maps_file_id(q.dev_major, q.dev_minor, q.inode) == k->arena_file &&
	       q.vma_offset + (addr - q.vma_start) == frame * KSM_PAGE_SIZE;
}

/* Have the kernel make an anon_vma. (A guard page is not enough: Linux 6.18.) */
static bool make_dumpable(uint8_t *p)
{
	return sysc3(SYS_madvise, p, KSM_PAGE_SIZE, MADV_POPULATE_WRITE) == 0 &&
	       sysc3(SYS_madvise, p, KSM_PAGE_SIZE, MADV_DONTNEED) == 0;
}

static bool prepare(const struct kit *k, uint8_t *p, uint64_t frame, size_t len, uint64_t to)
	NEEDS(as.lock)
{
	const struct as_range *r = as_range_at(to);
	uint64_t at = (uintptr_t)p;

	if (r && as_has_advice(r) &&
	    (!as_repeat_on_frames(at, at + len, r) ||
	     sysc3(SYS_mprotect, p, len, PROT_READ | PROT_WRITE)))
		return false;
	if (!continues(k, to - KSM_PAGE_SIZE, frame - 1) &&
	    !continues(k, to + len, frame + len / KSM_PAGE_SIZE) && !make_dumpable(p))
		return false;
	return sysc3(SYS_madvise, p, len, MADV_POPULATE_READ) == 0;
}

uint8_t *aside_frames(const struct kit *k, uint32_t frame, size_t len, uint64_t to)
{
	const struct as_range *r = as_range_at(to);
	int prot = r && as_has_advice(r) ? PROT_NONE : PROT_READ | PROT_WRITE;
	long p = sysc6(SYS_mmap, 0, (long)len, prot, MAP_PRIVATE, k->arena,
		       (long)frame * KSM_PAGE_SIZE);

	if (sysc_failed(p))
		return NULL;
	if (prepare(k, (uint8_t *)p, frame, len, to))
		return (uint8_t *)p;
	sysc2(SYS_munmap, p, (long)len);
	return NULL;
}

long aside_zeros(size_t len, const struct as_range *r)
{
	bool advised = as_has_advice(r);
	long p = sysc6(SYS_mmap, 0, (long)len, advised ? PROT_NONE : PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (sysc_failed(p))
		return -ENOMEM;
	if (!advised || (as_repeat_advice((uint64_t)p, (uint64_t)p + len, r) &&
			 !sysc3(SYS_mprotect, p, len, PROT_READ | PROT_WRITE)))
		return p;
	sysc2(SYS_munmap, p, len);
	return -ENOMEM;
}

long aside_move(uint64_t from, size_t len, uint64_t to)
{
	for (;;) {
		long r = sysc5(SYS_mremap, from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to);

		if (!sysc_failed(r))
			return 0;
		/* MS_ASYNC says whether there is a gap, and does nothing else. */
		if (sysc3(SYS_msync, to, len, MS_ASYNC) != -ENOMEM)
			return r;
		sysc0(SYS_sched_yield);
	}
}
