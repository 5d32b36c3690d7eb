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
 *
 * All this costs more than the merge itself where each page has a mapping of its own. There pieces
 * of a sheet are used: mremap(MREMAP_DONTUNMAP) copies a part of a mapping, its advice and its
 * anon_vma, and does not split it. So the preparation is paid once for an order. Three things need
 * care:
 *  - A core dump would have the whole sheet, other processes' frames and holes of the arena
 *    included. So it is MADV_DONTDUMP, and its pieces are too until they stand in place. What a
 *    dump lacks if the process dies in between are pages of the order, which are out of their
 *    place at that time in any case.
 *  - It takes address space, and where the kernel promises no more memory than there is, memory. So
 *    there is none in a process that has limits for either, whose next mmap() could fail for it.
 *  - mlockall(MCL_FUTURE) fills new memory that can be accessed. So it is made inaccessible and
 *    unlocked first.
 */
#include "client/aside.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "client/as_advice.h"
#include "client/as_frames.h"
#include "client/hold.h"
#include "client/io.h"
#include "client/maps.h"
#include "client/pageset.h"
#include "client/sysc.h"
#include "client/uffd.h"
#include "wire/kernel_abi.h"

uint64_t aside_stands(const struct kit *k, uint64_t addr, uint64_t frame)
{
	struct kabi_procmap_query q = { .size = sizeof(q), .query_addr = addr };

	if (sysc3(SYS_ioctl, k->maps, KABI_PROCMAP_QUERY, &q) ||
	    maps_file_id(q.dev_major, q.dev_minor, q.inode) != k->arena_file ||
	    q.vma_offset + (addr - q.vma_start) != frame * KSM_PAGE_SIZE)
		return 0;
	return q.vma_end;
}

/* Would `frame` stand at addr, in a mapping of frames that is there? */
static bool continues(const struct kit *k, uint64_t addr, uint64_t frame) NEEDS(as.lock)
{
	return as_frame_bit(addr) && aside_stands(k, addr, frame);
}

/*
 * Longer runs are compared where they are mapped, which costs them less than the read that a sheet
 * needs: it has no page tables.
 */
#define SHEET_RUN 8u

/*
 * The kernel maps the frames around one that is missing along with it, as many as this by default.
 * Asked for each frame it looks at each by itself besides, which takes half as long again.
 */
#define AROUND (16ull * KSM_PAGE_SIZE)

/* Fill the page tables of a new mapping of frames. */
static bool fill(const struct kit *k, uint64_t start, uint64_t end)
{
	if (end - start > AROUND)
		for (uint64_t at = start; at < end; at = (at | (AROUND - 1)) + 1)
			sysc3(SYS_madvise, at, KSM_PAGE_SIZE, MADV_POPULATE_READ);
	return (end - start > AROUND && hold_frames_end(k, start, end) == end) ||
	       sysc3(SYS_madvise, start, end - start, MADV_POPULATE_READ) == 0;
}

/* Have the kernel make an anon_vma. (A guard page is not enough: Linux 6.18.) */
static bool make_dumpable(uint8_t *p)
{
	return sysc3(SYS_madvise, p, KSM_PAGE_SIZE, MADV_POPULATE_WRITE) == 0 &&
	       sysc3(SYS_madvise, p, KSM_PAGE_SIZE, MADV_DONTNEED) == 0;
}

/* Is there anything that a mapping of frames for the range has to be told? */
static bool has_advice(const struct as_range *r) NEEDS(as.lock)
{
	return as_has_advice(r) || as_hides_frames(r);
}

static bool prepare(const struct kit *k, uint8_t *p, uint64_t frame, size_t len, uint64_t to)
	NEEDS(as.lock)
{
	const struct as_range *r = as_range_at(to);
	uint64_t at = (uintptr_t)p;

	if (r && has_advice(r) &&
	    (!as_repeat_on_frames(at, at + len, r) ||
	     sysc3(SYS_mprotect, p, len, PROT_READ | PROT_WRITE)))
		return false;
	if (!continues(k, to - KSM_PAGE_SIZE, frame - 1) &&
	    !continues(k, to + len, frame + len / KSM_PAGE_SIZE) && !make_dumpable(p))
		return false;
	return fill(k, at, at + len);
}

uint8_t *aside_frames(const struct kit *k, uint32_t frame, size_t len, uint64_t to)
{
	const struct as_range *r = as_range_at(to);
	int prot = r && has_advice(r) ? PROT_NONE : PROT_READ | PROT_WRITE;
	long p = sysc6(SYS_mmap, 0, (long)len, prot, MAP_PRIVATE, k->arena,
		       (long)frame * KSM_PAGE_SIZE);

	if (sysc_failed(p))
		return NULL;
	if (prepare(k, (uint8_t *)p, frame, len, to))
		return (uint8_t *)p;
	sysc2(SYS_munmap, p, (long)len);
	return NULL;
}

void aside_look(struct kit *k)
{
	char buf[8] = "";

	/* 2: OVERCOMMIT_NEVER. Where it cannot be read the careful answer costs time only. */
	k->commit_limited = io_slurp("/proc/sys/vm/overcommit_memory", buf, sizeof(buf)) <= 0 ||
			    buf[0] == '2';
}

void aside_sheet_begin(struct aside_sheet *s, const struct kit *k, const struct ksm_msg_order *m,
		       uint64_t set)
{
	uint32_t low = UINT32_MAX, high = 0, last = 0;
	bool inlays = false;
	unsigned int runs = 0;

	for (unsigned int i = 0; i < KSM_ORDER_PAGES; i++) {
		uint32_t f = m->frame[i] == KSM_FRAME_INLAY ? last + 1 : m->frame[i];

		if (!(set & pageset_bit(i)) || f == KSM_FRAME_ZERO || f >= k->arena_pages)
			continue;
		inlays |= m->frame[i] == KSM_FRAME_INLAY;
		runs += !i || !(set & pageset_bit(i - 1)) || last + 1 != f;
		low = f < low ? f : low;
		high = f > high ? f : high;
		last = f;
	}
	*s = (struct aside_sheet){ .frame = low, .inlays = inlays };
	/* One page more: a mapping that is moved as a whole loses its anon_vma. */
	if ((runs > 1 || inlays) && !k->commit_limited)
		s->len = ((size_t)(high - low) + 2) * KSM_PAGE_SIZE;
}

static bool is_limited(int resource)
{
	struct rlimit lim = { 0, 0 };

	return sysc4(SYS_prlimit64, 0, resource, NULL, &lim) || lim.rlim_cur != RLIM_INFINITY;
}

/* Make the sheet for memory with the advice of r. `frame` is one of it that the arena has. */
static bool make_sheet(struct aside_sheet *s, const struct kit *k, uint32_t frame,
		       const struct as_range *r) NEEDS(as.lock)
{
	long p;

	if (is_limited(RLIMIT_AS) || is_limited(RLIMIT_DATA))
		return false;
	p = sysc6(SYS_mmap, 0, (long)s->len, PROT_NONE, MAP_PRIVATE, k->arena,
		  (long)s->frame * KSM_PAGE_SIZE);
	if (sysc_failed(p))
		return false;
	s->at = (uint64_t)p;
	s->flags = r->flags & (AS_DONTFORK | AS_DONTDUMP);
	if (!sysc2(SYS_munlock, p, s->len) && !sysc3(SYS_madvise, p, s->len, MADV_DONTDUMP) &&
	    as_repeat_on_frames(s->at, s->at + s->len, r) &&
	    !sysc3(SYS_mprotect, p, s->len, PROT_READ | PROT_WRITE) &&
	    make_dumpable((uint8_t *)p + (size_t)(frame - s->frame) * KSM_PAGE_SIZE) &&
	    (!s->inlays ||
	     !uffd_register(k->uffd_sync, s->at, s->at + s->len, UFFDIO_REGISTER_MODE_MISSING)))
		return true;
	aside_sheet_end(s);
	return false;
}

/* Frames that are prepared on it already stay there, so it keeps the advice that it has. */
static bool have_sheet(struct aside_sheet *s, const struct kit *k, uint32_t frame,
		       const struct as_range *r) NEEDS(as.lock)
{
	if (s->at && s->flags != (r->flags & (AS_DONTFORK | AS_DONTDUMP)))
		return false;
	if (!s->at && !make_sheet(s, k, frame, r))
		s->len = 0;
	return s->len;
}

bool aside_sheet_has(struct aside_sheet *s, const struct kit *k, uint32_t frame, size_t len,
		     uint64_t to)
{
	const struct as_range *r = as_range_at(to);

	if (!s->len || !r || len > SHEET_RUN * KSM_PAGE_SIZE ||
	    (to != s->edge && continues(k, to - KSM_PAGE_SIZE, frame - 1)) ||
	    continues(k, to + len, frame + len / KSM_PAGE_SIZE))
		return false;
	return have_sheet(s, k, frame, r);
}

bool aside_sheet_inlays(struct aside_sheet *s, const struct kit *k, uint32_t frame, uint64_t to)
{
	const struct as_range *r = as_range_at(to);

	return s->len && s->inlays && r && have_sheet(s, k, frame, r);
}

long aside_sheet_place(struct aside_sheet *s, uint32_t frame, size_t len, uint64_t to)
{
	long r = sysc5(SYS_mremap, s->at + (uint64_t)(frame - s->frame) * KSM_PAGE_SIZE, len, len,
		       MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to);

	if (sysc_failed(r))
		return r;
	s->edge = to + len;
	return 0;
}

void aside_sheet_show(uint64_t start, uint64_t end)
{
	if (!as_hides_frames(as_range_at(start)))
		as_repeat(start, end, MADV_DODUMP);
}

void aside_sheet_end(struct aside_sheet *s)
{
	if (s->at)
		sysc2(SYS_munmap, s->at, s->len);
	s->at = 0;
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

bool aside_has_gap(uint64_t start, uint64_t end)
{
	return sysc3(SYS_msync, start, end - start, MS_ASYNC) == -ENOMEM;
}

long aside_move(uint64_t from, size_t len, uint64_t to)
{
	for (;;) {
		long r = sysc5(SYS_mremap, from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to);

		if (!sysc_failed(r))
			return 0;
		if (!sysc_may_pass(r) || !aside_has_gap(to, to + len))
			return r;
		sysc0(SYS_sched_yield);
	}
}
