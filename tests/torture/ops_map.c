/* SPDX-License-Identifier: MIT */
/*
 * ops_map.c - changes of the address space, and advice. The caller holds the area exclusively.
 *
 * Lack of memory (ENOMEM: the limit of mappings) is an answer that a program has to live with; the
 * shadow then stays as it is. Any other refusal is a failure.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/torture/actor.h"
#include "tests/torture/ops.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#define GUARD_INSTALL 102 /* Linux 6.13 */
#define GUARD_REMOVE 103

static void set_flag(const struct piece *p, uint8_t clear, uint8_t set)
{
	for (uint32_t i = 0; i < p->nr; i++) {
		uint8_t *f = &p->a->flag[p->first + i];

		*f = (uint8_t)((*f & ~clear) | set);
	}
}

static bool any_flag(const struct piece *p, uint8_t mask)
{
	for (uint32_t i = 0; i < p->nr; i++)
		if (p->a->flag[p->first + i] & mask)
			return true;
	return false;
}

static void now_zero(const struct piece *p)
{
	memset(piece_shadow(p), 0, piece_bytes(p));
}

/* ---- unmapping and mapping ---- */

static bool unmap(struct piece *p)
{
	log_begin(OP_UNMAP, p, 0);
	area_drop(p->a);
	log_end(0);
	return true;
}

static bool unmap_part(struct piece *p)
{
	log_begin(OP_UNMAP_PART, p, 0);
	if (call_munmap(piece_mem(p), piece_bytes(p))) {
		if (errno != ENOMEM)
			fail_call("munmap", errno);
		log_end(-ENOMEM);
		return false;
	}
	now_zero(p);
	set_flag(p, 0xff, PF_HOLE);
	log_end(0);
	return true;
}

static void offer_again(const struct piece *p)
{
	if (odds(70) && call_madvise(piece_mem(p), piece_bytes(p), MADV_MERGEABLE) &&
	    errno != ENOMEM)
		fail_call("madvise MERGEABLE", errno);
}

/* Another thread may have mapped something there meanwhile; then the area cannot be whole again. */
static bool fill_hole(struct piece *p)
{
	struct area *a = p->a;
	void *m;

	while (p->nr && !(a->flag[p->first] & PF_HOLE)) {
		p->first++;
		p->nr--;
	}
	for (uint32_t i = 0; i < p->nr; i++)
		if (!(a->flag[p->first + i] & PF_HOLE))
			p->nr = i;
	if (!p->nr)
		return false;
	log_begin(OP_FILL_HOLE, p, 0);
	m = call_mmap(piece_mem(p), piece_bytes(p), MAP_FIXED_NOREPLACE);
	log_end((int64_t)(uintptr_t)m);
	if (m == MAP_FAILED) {
		area_drop(a);
		return false;
	}
	if (m != piece_mem(p))
		fail_other("mmap(MAP_FIXED_NOREPLACE) of %p gave %p", piece_mem(p), m);
	now_zero(p);
	set_flag(p, 0xff, 0);
	offer_again(p);
	return true;
}

static bool map_over(struct piece *p)
{
	log_begin(OP_MAP_OVER, p, 0);
	if (call_mmap(piece_mem(p), piece_bytes(p), MAP_FIXED) != piece_mem(p))
		fail_call("mmap(MAP_FIXED)", errno);
	now_zero(p);
	set_flag(p, 0xff, 0);
	log_end(0);
	offer_again(p);
	return true;
}

/* ---- mremap ---- */

static void remap(struct area *a, uint32_t new_pages, int flags, enum op op)
{
	void *m = call_mremap(a->mem, a->pages * PG, new_pages * PG, flags, NULL);

	log_end((int64_t)(uintptr_t)m);
	if (m == MAP_FAILED) {
		/* EFAULT: parts of different protection are not one mapping. */
		if (errno != ENOMEM && errno != EFAULT)
			fail_call(op_names[op], errno);
		return;
	}
	a->mem = m;
	if (new_pages > a->pages) {
		memset(a->shadow + a->pages * PG, 0, (new_pages - a->pages) * PG);
		memset(a->flag + a->pages, 0, new_pages - a->pages);
	}
	a->pages = new_pages;
}

static bool grow(struct piece *p)
{
	struct area *a = p->a;
	uint32_t room = AREA_PAGES - a->pages;

	/* The pages must have one protection, or that of the new pages would be in doubt. */
	if (!room || any_flag(p, PF_NO_STORE))
		return false;
	log_begin(OP_MREMAP_GROW, p, 0);
	remap(a, a->pages + 1 + (uint32_t)dice(room < 200 ? room : 200),
	      odds(80) ? MREMAP_MAYMOVE : 0, OP_MREMAP_GROW);
	check_pages(a, 0, a->pages, true);
	return true;
}

static bool shrink(struct piece *p)
{
	struct area *a = p->a;

	if (a->pages < 8 || any_flag(p, PF_HOLE))
		return false;
	log_begin(OP_MREMAP_SHRINK, p, 0);
	remap(a, a->pages - 1 - (uint32_t)dice(a->pages / 2), odds(50) ? MREMAP_MAYMOVE : 0,
	      OP_MREMAP_SHRINK);
	check_pages(a, 0, a->pages, true);
	return true;
}

/* Move all of the area to a place where something else is mapped just for this. */
static bool move(struct piece *p)
{
	struct area *a = p->a;
	void *to, *m;

	if (any_flag(p, PF_HOLE))
		return false;
	to = call_mmap(NULL, a->pages * PG, 0);
	if (to == MAP_FAILED)
		return false;
	log_begin(OP_MREMAP_MOVE, p, (uintptr_t)to);
	m = call_mremap(a->mem, a->pages * PG, a->pages * PG, MREMAP_MAYMOVE | MREMAP_FIXED, to);
	log_end((int64_t)(uintptr_t)m);
	if (m == MAP_FAILED) {
		if (errno != ENOMEM && errno != EFAULT)
			fail_call("mremap(MREMAP_FIXED)", errno);
		area_drop(a); /* what stands at the target may be gone, or not */
		return false;
	}
	a->mem = m;
	check_pages(a, 0, a->pages, true);
	return true;
}

/* Move pages of one area over pages of another. They leave a hole, or zeros. */
static bool move_part(struct piece *p)
{
	struct area *b = &world->area[dice(AREAS)];
	bool keep = odds(40);
	struct piece q = { .a = b, .nr = p->nr };
	void *m;

	if (!area_mine(b) || b == p->a || b->heap || b->pages <= p->nr || any_flag(p, PF_HOLE))
		return false;
	q.first = (uint32_t)dice(b->pages - p->nr);
	if (any_flag(&q, PF_HOLE | PF_SPECIAL))
		return false;
	log_begin(keep ? OP_MREMAP_DONTUNMAP : OP_MREMAP_PART, p, (uintptr_t)piece_mem(&q));
	m = call_mremap(piece_mem(p), piece_bytes(p), piece_bytes(p),
			MREMAP_MAYMOVE | MREMAP_FIXED | (keep ? MREMAP_DONTUNMAP : 0),
			piece_mem(&q));
	log_end((int64_t)(uintptr_t)m);
	if (m == MAP_FAILED) {
		if (errno != ENOMEM && errno != EFAULT)
			fail_call("mremap of a part", errno);
		area_drop(b);
		return false;
	}
	memcpy(piece_shadow(&q), piece_shadow(p), piece_bytes(p));
	memcpy(b->flag + q.first, p->a->flag + p->first, p->nr);
	now_zero(p);
	if (keep)
		set_flag(p, PF_LAZY, 0);
	else
		set_flag(p, 0xff, PF_HOLE);
	check_pages(b, q.first, q.nr, true);
	check_pages(p->a, p->first, p->nr, true);
	my_seat()->ops[keep ? OP_MREMAP_DONTUNMAP : OP_MREMAP_PART]++;
	return false; /* counted */
}

/* ---- protection ---- */

static bool protect(struct piece *p, enum op op, int prot, uint8_t flag)
{
	log_begin(op, p, (uint64_t)prot);
	if (call_mprotect(piece_mem(p), piece_bytes(p), prot)) {
		if (errno != ENOMEM)
			fail_call("mprotect", errno);
		log_end(-ENOMEM);
		return false;
	}
	set_flag(p, PF_RO | PF_NONE, flag);
	log_end(0);
	check_pages(p->a, p->first, p->nr, true);
	return true;
}

static bool protect_read(struct piece *p)
{
	return protect(p, OP_PROTECT_READ, PROT_READ, PF_RO);
}

static bool protect_none(struct piece *p)
{
	return protect(p, OP_PROTECT_NONE, PROT_NONE, PF_NONE);
}

static bool protect_back(struct piece *p)
{
	uint32_t nr = p->nr;

	for (p->nr = 0; p->nr < nr && !(p->a->flag[p->first + p->nr] & PF_HOLE); p->nr++)
		;
	return p->nr && any_flag(p, PF_RO | PF_NONE) &&
	       protect(p, OP_PROTECT_BACK, PROT_READ | PROT_WRITE, 0);
}

/* ---- advice ---- */

static int advise(const struct piece *p, enum op op, int advice)
{
	int r;

	log_begin(op, p, (uint64_t)advice);
	r = call_madvise(piece_mem(p), piece_bytes(p), advice) ? -errno : 0;
	log_end(r);
	return r;
}

static bool must(enum op op, int r)
{
	if (r && r != -ENOMEM && r != -EAGAIN && r != -EINTR)
		fail_call(op_names[op], -r);
	return r == 0;
}

static bool dontneed(struct piece *p)
{
	if (any_flag(p, PF_LOCKED)) /* refused half-way */
		return false;
	if (!must(OP_DONTNEED, advise(p, OP_DONTNEED, MADV_DONTNEED)))
		return false;
	now_zero(p);
	set_flag(p, PF_LAZY, 0);
	check_pages(p->a, p->first, p->nr, true);
	return true;
}

static bool lazy_free(struct piece *p)
{
	if (any_flag(p, PF_LOCKED | PF_RO))
		return false;
	/* This holds after a failure as well: a part may have been done. */
	must(OP_FREE, advise(p, OP_FREE, MADV_FREE));
	set_flag(p, 0, PF_LAZY);
	check_pages(p->a, p->first, p->nr, true);
	if (p->a->owner == AREA_SHARED)
		resolve_lazy(p->a, p->first, p->nr);
	return true;
}

static bool guard(struct piece *p)
{
	int r;

	if (any_flag(p, PF_LOCKED))
		return false;
	r = advise(p, OP_GUARD, GUARD_INSTALL);
	if (r == -EINVAL) {
		op_lacks(OP_GUARD, EINVAL);
		return false;
	}
	if (!must(OP_GUARD, r))
		return false;
	r = call_madvise(piece_mem(p), piece_bytes(p), GUARD_REMOVE) ? -errno : 0;
	if (r)
		fail_call("madvise GUARD_REMOVE", -r);
	now_zero(p);
	set_flag(p, PF_LAZY, 0);
	check_pages(p->a, p->first, p->nr, true);
	return true;
}

/* Advice that changes nothing that can be seen. The kernel may have reasons to refuse it. */
static bool hint(struct piece *p, enum op op, int advice)
{
	int r = advise(p, op, advice);

	check_pages(p->a, p->first, p->nr, true);
	return r == 0 || op == OP_COLLAPSE || op == OP_POPULATE_READ || op == OP_POPULATE_WRITE;
}

#define HINT(fn, name)                                                                             \
	static bool fn(struct piece *p)                                                            \
	{                                                                                          \
		return hint(p, OP_##name, MADV_##name);                                            \
	}
HINT(huge, HUGEPAGE)
HINT(no_huge, NOHUGEPAGE)
HINT(collapse, COLLAPSE)
HINT(cold, COLD)
HINT(pageout, PAGEOUT)
HINT(populate_read, POPULATE_READ)
HINT(populate_write, POPULATE_WRITE)

static bool lock_pages(struct piece *p)
{
	int r;

	log_begin(OP_MLOCK, p, 0);
	r = (odds(50) ? mlock(piece_mem(p), piece_bytes(p)) :
			mlock2(piece_mem(p), piece_bytes(p), MLOCK_ONFAULT)) ?
		    -errno :
		    0;
	log_end(r);
	if (r && r != -ENOMEM && r != -EAGAIN && r != -EPERM)
		fail_call("mlock", -r);
	set_flag(p, 0, PF_LOCKED); /* some of it may be, after a failure */
	check_pages(p->a, p->first, p->nr, true);
	return r == 0;
}

static bool unlock_pages(struct piece *p)
{
	if (!any_flag(p, PF_LOCKED))
		return false;
	log_begin(OP_MUNLOCK, p, 0);
	if (munlock(piece_mem(p), piece_bytes(p))) {
		if (errno != ENOMEM)
			fail_call("munlock", errno);
		log_end(-ENOMEM);
		return false;
	}
	set_flag(p, PF_LOCKED, 0);
	log_end(0);
	return true;
}

/* Switch the advice on, or off where it is on. */
static bool toggle(struct piece *p, enum op op, int on, int off, uint8_t flag)
{
	bool was = any_flag(p, flag);
	int r = advise(p, op, was ? off : on);

	if (!must(op, r)) {
		if (flag)
			area_drop(p->a);
		return false;
	}
	set_flag(p, flag, was ? 0 : flag);
	check_pages(p->a, p->first, p->nr, true);
	return true;
}

static bool dontfork(struct piece *p)
{
	return toggle(p, OP_DONTFORK, MADV_DONTFORK, MADV_DOFORK, PF_DONTFORK);
}

static bool wipeonfork(struct piece *p)
{
	return toggle(p, OP_WIPEONFORK, MADV_WIPEONFORK, MADV_KEEPONFORK, PF_WIPE);
}

static bool dontdump(struct piece *p)
{
	bool done = must(OP_DONTDUMP, advise(p, OP_DONTDUMP, MADV_DONTDUMP));

	if (odds(80))
		call_madvise(piece_mem(p), piece_bytes(p), MADV_DODUMP);
	check_pages(p->a, p->first, p->nr, true);
	return done;
}

/* ---- offering and withdrawing ---- */

static bool mergeable(struct piece *p)
{
	bool done = must(OP_MERGEABLE, advise(p, OP_MERGEABLE, MADV_MERGEABLE));

	check_pages(p->a, p->first, p->nr, true);
	return done;
}

/*
 * "When the call returns no page of the range stands on a shared frame." Unless another thread has
 * offered all memory meanwhile: the call waits for the daemon at its end, 0.2 s if that is slow.
 */
static bool unmergeable(struct piece *p)
{
	unsigned int ended = atomic_load(&offers_of_all.ended);

	if (!must(OP_UNMERGEABLE, advise(p, OP_UNMERGEABLE, MADV_UNMERGEABLE)))
		return false;
	for (uint32_t i = 0; i < p->nr; i++)
		if (page_on_file(piece_mem(p) + i * PG) > 0 &&
		    atomic_load(&offers_of_all.begun) == ended)
			fail_other("page %p stands on a frame after MADV_UNMERGEABLE",
				   piece_mem(p) + i * PG);
	check_pages(p->a, p->first, p->nr, true);
	if (odds(70))
		mergeable(p);
	return true;
}

const struct op_desc ops_map[] = {
	{ OP_UNMAP, 3, NEED_MAP | NEED_ANY | NEED_WHOLE, 1, 1, unmap },
	{ OP_UNMAP_PART, 4, NEED_MAP, 64, 1, unmap_part },
	{ OP_FILL_HOLE, 30, NEED_MAP | NEED_ANY, 1000, 1, fill_hole },
	{ OP_MAP_OVER, 6, NEED_MAP, 64, 1, map_over },
	{ OP_MREMAP_GROW, 8, NEED_MAP | NEED_WHOLE | NEED_PLAIN, 1, 1, grow },
	{ OP_MREMAP_SHRINK, 4, NEED_MAP | NEED_WHOLE | NEED_PLAIN, 1, 1, shrink },
	{ OP_MREMAP_MOVE, 8, NEED_MAP | NEED_WHOLE | NEED_ANY | NEED_PLAIN, 1, 1, move },
	{ OP_MREMAP_PART, 14, NEED_MAP | NEED_PRIVATE | NEED_PLAIN, 128, 1, move_part },
	{ OP_PROTECT_READ, 10, NEED_MAP, 128, 1, protect_read },
	{ OP_PROTECT_NONE, 5, NEED_MAP, 128, 1, protect_none },
	{ OP_PROTECT_BACK, 50, NEED_MAP | NEED_ANY, 1500, 1, protect_back },
	{ OP_DONTNEED, 15, NEED_MAP, 64, 1, dontneed },
	{ OP_FREE, 12, NEED_MAP, 64, 1, lazy_free },
	{ OP_GUARD, 5, NEED_MAP, 32, 1, guard },
	{ OP_HUGEPAGE, 8, NEED_MAP, 1500, 1, huge },
	{ OP_NOHUGEPAGE, 4, NEED_MAP, 1500, 1, no_huge },
	{ OP_COLLAPSE, 4, NEED_MAP, 1500, 1, collapse },
	{ OP_COLD, 6, NEED_MAP, 256, 1, cold },
	{ OP_PAGEOUT, 6, NEED_MAP, 256, 1, pageout },
	{ OP_POPULATE_READ, 6, NEED_MAP, 256, 1, populate_read },
	{ OP_POPULATE_WRITE, 4, NEED_MAP, 64, 1, populate_write },
	{ OP_MLOCK, 4, NEED_MAP, 32, 1, lock_pages },
	{ OP_MUNLOCK, 12, NEED_MAP, 1000, 1, unlock_pages },
	{ OP_DONTFORK, 4, NEED_MAP, 64, 1, dontfork },
	{ OP_WIPEONFORK, 4, NEED_MAP, 64, 1, wipeonfork },
	{ OP_DONTDUMP, 3, NEED_MAP, 64, 1, dontdump },
	{ OP_MERGEABLE, 30, NEED_MAP, 1500, 1, mergeable },
	{ OP_UNMERGEABLE, 4, NEED_MAP, 256, 1, unmergeable },
};
const unsigned int nr_ops_map = sizeof(ops_map) / sizeof(ops_map[0]);
