/* SPDX-License-Identifier: MIT */
/*
 * ops_remap.c - mremap(2) of memory in which frames may stand.
 *
 * The kernel moves and grows one mapping at a time. A range that was one mapping for the program
 * may be many by now, and some of them are of the arena's file, which would grow by whatever the
 * file holds there. So:
 *
 *  - Where no frames stand, and to shrink in place, the kernel is asked first: what it does is
 *    right, and it accounts for the growth alone. Only where it says that the range spans mappings
 *    (EFAULT) may that be the library's doing. It is not asked to move several mappings to a fixed
 *    place: Linux 6.17 learned to do that, one after the other, and when it fails half of them
 *    have been moved.
 *  - Otherwise the tail is cut off first, as the kernel does. Then a target is reserved, and the
 *    mappings are moved over one by one. If one cannot be, the others are moved back.
 *
 * The tables must follow whatever was moved, because a frame whose bit is not set would show
 * through after MADV_DONTNEED. So they get their memory before anything is moved.
 */
#include <errno.h>
#include <sys/mman.h>

#include "base/span.h"
#include "client/as_advice.h"
#include "client/as_frames.h"
#include "client/as_queue.h"
#include "client/as_ranges.h"
#include "client/aside.h"
#include "client/client.h"
#include "client/maps.h"
#include "client/ops.h"
#include "client/ops_withdraw.h"
#include "client/sysc.h"

/* One call; lengths are whole pages. */
struct remap {
	uint64_t old, old_len, new_len;
	int flags;
	uint64_t to; /* with MREMAP_FIXED */
};

/* ---- piece by piece ---- */

#define FIRST_PIECES 64 /* there is room for so many at first */

struct pieces {
	struct maps_entry *e;
	size_t nr, cap;
	bool nomem; /* there was no memory for some */
};

static void add_piece(void *arg, const struct maps_entry *e)
{
	struct pieces *p = arg;

	if (p->nr == p->cap) {
		long r = sysc5(SYS_mremap, p->e, p->cap * sizeof(*e), 2 * p->cap * sizeof(*e),
			       MREMAP_MAYMOVE, 0);

		p->nomem |= sysc_failed(r);
		if (p->nomem)
			return;
		p->e = (struct maps_entry *)r;
		p->cap *= 2;
	}
	p->e[p->nr++] = *e;
}

/* The mappings of [start, end), clipped. Returns 0, -ENOMEM, or -EFAULT: there is a gap. */
static long find_pieces(struct pieces *p, uint64_t start, uint64_t end)
{
	uint64_t at = start;
	long r;

	p->cap = FIRST_PIECES;
	p->nr = 0;
	r = sysc6(SYS_mmap, 0, (long)(p->cap * sizeof(*p->e)), PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (sysc_failed(r))
		return -ENOMEM;
	p->e = (struct maps_entry *)r;
	if (maps_walk(start, end, add_piece, p) < 0 || p->nomem)
		return -ENOMEM;
	for (size_t i = 0; i < p->nr; i++) {
		struct maps_entry *e = &p->e[i];

		e->start = u64_max(e->start, start);
		e->end = u64_min(e->end, end);
		if (e->start != at)
			return -EFAULT;
		at = e->end;
	}
	return at == end ? 0 : -EFAULT;
}

static void drop_pieces(struct pieces *p)
{
	if (p->e)
		sysc2(SYS_munmap, p->e, p->cap * sizeof(*p->e));
}

static long move_piece(uint64_t from, uint64_t to, size_t len, int flags)
{
	long r = sysc5(SYS_mremap, from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED | flags, to);

	return sysc_failed(r) ? r : 0;
}

/*
 * Mappings to give up when pieces must go back. The kernel looks at its limit of mappings in every
 * move, and the moves so far may have used up what was left: a piece that is a part of a mapping
 * leaves the rest as another one.
 */
enum { BALLAST = 7 * KSM_PAGE_SIZE };

static long map_ballast(void)
{
	long m = sysc6(SYS_mmap, 0, BALLAST, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (long at = KSM_PAGE_SIZE; !sysc_failed(m) && at < BALLAST; at += 2 * KSM_PAGE_SIZE) {
		if (!sysc3(SYS_mprotect, m + at, KSM_PAGE_SIZE, PROT_READ))
			continue;
		sysc2(SYS_munmap, m, BALLAST);
		m = -ENOMEM;
	}
	return m;
}

/* The first n pieces, which were moved from `from` to `to`, go back. */
static void move_back(const struct pieces *p, size_t n, uint64_t from, uint64_t to)
{
	while (n-- > 0) {
		const struct maps_entry *e = &p->e[n];

		/* Another answer than want of memory: the program has sealed what it has mapped
		 * there by a raw call, and the piece stays where it is. */
		while (sysc_may_pass(
			move_piece(to + (e->start - from), e->start, e->end - e->start, 0)))
			sysc0(SYS_sched_yield);
	}
}

/*
 * Move all of [from, from + len) over `to`, which the library has reserved; on failure nothing is
 * moved, and nothing is left at `to`. A move takes away what stands at its target before it may
 * fail for want of kernel memory. So a piece that was moved is the only copy of its pages, and
 * going back is tried until it succeeds.
 */
static long move_all(uint64_t from, size_t len, uint64_t to, size_t to_len, int flags)
{
	struct pieces p = { 0 };
	long r = find_pieces(&p, from, from + len), ballast = map_ballast();
	struct span reserved = { to, to + to_len }; /* below its start other threads may map */
	size_t moved = 0;

	if (!r && sysc_failed(ballast))
		r = ballast;
	while (!r && moved < p.nr) {
		const struct maps_entry *e = &p.e[moved];
		struct span target = { to + (e->start - from), to + (e->end - from) };

		r = move_piece(e->start, target.start, span_len(target), flags);
		if (!r)
			moved++;
		else
			reserved.start = aside_has_gap(target.start, target.end) ? target.end :
										   target.start;
	}
	if (!sysc_failed(ballast))
		sysc2(SYS_munmap, ballast, BALLAST);
	if (r && !span_empty(reserved))
		sysc2(SYS_munmap, reserved.start, span_len(reserved));
	if (r)
		move_back(&p, moved, from, to);
	drop_pieces(&p);
	return r;
}

/* ---- the tables follow ---- */

/* [at, at + len) was added behind `last` and is a part of it now. */
static void follow_growth(const struct as_range *last, uint64_t at, uint64_t len) NEEDS(as.lock)
{
	ops_forget(at, at + len);
	if (!last->end)
		return;
	as_put(at, at + len, *last);
	if (last->flags & AS_WANTED)
		as_event(KSM_MSG_ADD, at, at + len);
}

/* What is known of the page before `end`; all zeros when nothing is. */
static struct as_range last_known(uint64_t end) NEEDS(as.lock)
{
	const struct as_range *r = as_range_at(end - KSM_PAGE_SIZE);

	return r ? *r : (struct as_range){ 0 };
}

/* The tables follow a move of len bytes. Nothing was known at the new place. */
static void follow_move(uint64_t from, uint64_t len, uint64_t to, bool keep_old) NEEDS(as.lock)
{
	uint64_t at = from, run_end;
	bool offered = false, frames = false;

	for (const struct as_range *i = as_first(from);
	     at < from + len && i && i->start < from + len; i = as_first(at)) {
		struct as_range r = *i;
		struct span part = span_clip(as_span(&r), (struct span){ from, from + len });

		at = part.end;
		offered |= r.flags & AS_WANTED;
		as_put(to + (part.start - from), to + (part.end - from), r);
	}
	for (at = from; as_frames_next(&at, &run_end, from + len); at = run_end) {
		frames = true;
		as_frames_set(to + (at - from), to + (run_end - from));
	}
	as.frame_moves += frames;
	if (keep_old) {
		/* The contents have moved, so the program must see zeros here. */
		while (sysc_may_pass(ops_empty_frames(from, from + len)))
			sysc0(SYS_sched_yield);
		as_event(KSM_MSG_FORGET, from, from + len);
	} else {
		ops_forget(from, from + len);
	}
	if (offered)
		as_event(KSM_MSG_ADD, to, to + len);
	if (frames)
		as_event(KSM_MSG_ADOPT, to, to + len);
}

/* Pieces moved and came back, which ended the tracking of changes: to the daemon they are new. */
static void follow_return(uint64_t start, uint64_t end) NEEDS(as.lock)
{
	if (!as_knows(start, end))
		return;
	as_event(KSM_MSG_DEL, start, end);
	as_event(KSM_MSG_ADD, start, end);
	as_event(KSM_MSG_ADOPT, start, end);
}

/*
 * Make room for as many entries as a move adds at most. Each range adds two where it goes and two
 * where it is cut out; the rest is for growth, and for the room that each edit asks for. Returns 0
 * or -ENOMEM.
 */
static int reserve_ranges(uint64_t start, uint64_t end) NEEDS(as.lock)
{
	size_t nr = 0;

	for (const struct as_range *r = as_first(start); r && r->start < end; r = as_next(r))
		nr++;
	return as_reserve(4 * nr + 16);
}

static void forget_hole(void *arg, const struct maps_entry *e) NEEDS(as.lock)
{
	struct span *rest = arg;

	if (e->start > rest->start)
		ops_forget(rest->start, e->start);
	rest->start = e->end;
}

/* A call that failed may have unmapped some of [start, end). */
static void forget_holes(uint64_t start, uint64_t end) NEEDS(as.lock)
{
	struct span rest = { start, end };

	if (!as_knows(start, end) || maps_walk(start, end, forget_hole, &rest) < 0)
		return;
	if (!span_empty(rest))
		ops_forget(rest.start, end);
}

struct search {
	struct span span;
	bool in_one; /* one mapping holds all of it */
};

static void look_for_one(void *arg, const struct maps_entry *e)
{
	struct search *s = arg;

	s->in_one |= e->start <= s->span.start && e->end >= s->span.end;
}

static bool is_one_mapping(uint64_t start, uint64_t end)
{
	struct search s = { .span = { start, end } };

	return maps_walk(start, end, look_for_one, &s) >= 0 && s.in_one;
}

/* ---- ways to do it ---- */

/* The kernel does it, and its result is the call's. */
static long by_kernel(const struct remap *m) NEEDS(as.lock)
{
	struct as_range last = last_known(m->old + m->old_len);
	uint64_t moved = u64_min(m->old_len, m->new_len);
	long r = sysc5(SYS_mremap, m->old, m->old_len, m->new_len, m->flags, m->to);
	uint64_t to = (uint64_t)r;

	if (sysc_failed(r)) {
		forget_holes(m->old, m->old + m->old_len);
		if (m->flags & MREMAP_FIXED)
			forget_holes(m->to, m->to + m->new_len);
		return r;
	}
	if (to != m->old) {
		ops_forget(to, to + m->new_len);
		follow_move(m->old, moved, to, m->flags & MREMAP_DONTUNMAP);
	}
	if (m->old_len > m->new_len)
		ops_forget(m->old + moved, m->old + m->old_len);
	if (m->new_len > m->old_len)
		follow_growth(&last, to + moved, m->new_len - moved);
	return r;
}

static long map_like(const struct as_range *r, uint64_t at, uint64_t len, int flags) NEEDS(as.lock)
{
	int prot = r->end ? r->prot : PROT_READ | PROT_WRITE;
	long p = sysc6(SYS_mmap, (long)at, (long)len, prot, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1,
		       0);

	if (!sysc_failed(p))
		as_repeat_advice((uint64_t)p, (uint64_t)p + len, r);
	return p;
}

/* Grow without moving, where the memory behind is free. */
static long grow_in_place(const struct remap *m) NEEDS(as.lock)
{
	struct as_range last = last_known(m->old + m->old_len);
	uint64_t end = m->old + m->old_len, more = m->new_len - m->old_len;

	if (!last.end || sysc_failed(map_like(&last, end, more, MAP_FIXED_NOREPLACE)))
		return -ENOMEM;
	follow_growth(&last, end, more);
	return (long)m->old;
}

static long cut_tail(struct remap *m) NEEDS(as.lock)
{
	uint64_t tail = m->old + m->new_len, len = m->old_len - m->new_len;
	long r = sysc2(SYS_munmap, tail, len);

	if (r)
		return r;
	ops_forget(tail, tail + len);
	m->old_len = m->new_len;
	return 0;
}

/* Reserve a place for the whole, with what is to be added, and move the pieces there. */
static long by_pieces(struct remap *m) NEEDS(as.lock)
{
	struct as_range last = last_known(m->old + m->old_len);
	bool fixed = m->flags & MREMAP_FIXED, keep = m->flags & MREMAP_DONTUNMAP;
	long to, r = 0;

	/* The target is overwritten below: make room before, where its place is known. */
	if (fixed)
		r = as_frames_reserve(m->to, m->to + m->new_len);
	if (r)
		return r;
	to = map_like(&last, fixed ? m->to : 0, m->new_len, fixed ? MAP_FIXED : 0);
	if (sysc_failed(to))
		return to;
	ops_forget((uint64_t)to, (uint64_t)to + m->new_len);
	r = as_frames_reserve((uint64_t)to, (uint64_t)to + m->new_len);
	if (r)
		sysc2(SYS_munmap, to, m->new_len);
	else
		r = move_all(m->old, m->old_len, (uint64_t)to, m->new_len,
			     keep ? MREMAP_DONTUNMAP : 0);
	if (r) {
		follow_return(m->old, m->old + m->old_len);
		return r;
	}
	follow_move(m->old, m->old_len, (uint64_t)to, keep);
	if (m->new_len > m->old_len)
		follow_growth(&last, (uint64_t)to + m->old_len, m->new_len - m->old_len);
	return to;
}

/* The kernel leaves sealed memory where it is; of a call that changes nothing it says so, too. */
static bool is_sealed(uint64_t page)
{
	return sysc5(SYS_mremap, page, KSM_PAGE_SIZE, KSM_PAGE_SIZE, 0, 0) == -EPERM;
}

/* by_halves: the kernel would move several mappings, and might stop between them (see above). */
static long remap_known(struct remap *m) NEEDS(as.lock)
{
	bool keep = m->flags & MREMAP_DONTUNMAP, moves = keep || (m->flags & MREMAP_FIXED);
	bool shrinks = !moves && m->new_len <= m->old_len;
	bool by_halves = (m->flags & MREMAP_FIXED) && m->new_len == m->old_len &&
			 !is_one_mapping(m->old, m->old + m->old_len);
	uint64_t at = m->old, run_end;
	long r = reserve_ranges(m->old, m->old + m->old_len);

	if (r)
		return r;
	if (!by_halves && (shrinks || !as_frames_next(&at, &run_end, m->old + m->old_len))) {
		r = by_kernel(m);
		if (r != -EFAULT)
			return r;
	}
	if (is_sealed(m->old))
		return -EPERM;
	r = m->new_len < m->old_len ? cut_tail(m) : 0;
	if (r || shrinks)
		return r ? r : (long)m->old;
	if (!moves) {
		r = grow_in_place(m);
		if (r > 0 || !(m->flags & MREMAP_MAYMOVE))
			return r;
	}
	return by_pieces(m);
}

static bool remap_is_valid(const struct remap *m)
{
	if (m->flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP))
		return false;
	if ((m->flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) && !(m->flags & MREMAP_MAYMOVE))
		return false;
	if ((m->flags & MREMAP_DONTUNMAP) && m->old_len != m->new_len)
		return false;
	if (m->old % KSM_PAGE_SIZE || !m->old_len || !m->new_len ||
	    m->old + m->old_len > KSM_ADDR_END || m->old_len > KSM_ADDR_END)
		return false;
	if (m->flags & MREMAP_FIXED)
		return m->to % KSM_PAGE_SIZE == 0 && m->new_len <= KSM_ADDR_END &&
		       (m->to + m->new_len <= m->old || m->to >= m->old + m->old_len) &&
		       m->to + m->new_len <= KSM_ADDR_END;
	return true;
}

/* Shared memory is in the table to be counted; the kernel moves it. */
static bool is_shared(uint64_t addr) NEEDS(as.lock)
{
	const struct as_range *r = as_range_at(addr);

	return r && r->left_out & 1u << KSM_LEFT_SHARED;
}

long ksmc_mremap(void *old_p, size_t old_len, size_t new_len, int flags, void *new_addr)
{
	struct remap m = {
		.old = (uintptr_t)old_p,
		.old_len = page_up(old_len),
		.new_len = page_up(new_len),
		.flags = flags,
		.to = (uintptr_t)new_addr,
	};
	struct as_guard g;
	long r;

	if (!atomic_load_explicit(&as.active, memory_order_relaxed))
		return sysc5(SYS_mremap, old_p, old_len, new_len, flags, new_addr);
	/*
	 * Memory that is being withdrawn does not move until that is done. Otherwise frames could
	 * come to a place where nobody looks for them any more, and the daemon would be told that
	 * there are none.
	 */
	ops_enter_unmarked(&g, m.old, m.old + m.old_len);
	if (remap_is_valid(&m) && as_knows(m.old, m.old + m.old_len) && !is_shared(m.old)) {
		r = remap_known(&m);
	} else {
		/* Not known, or not ours, or the call is in error: the kernel answers. */
		r = sysc5(SYS_mremap, old_p, old_len, new_len, flags, new_addr);
		if (!sysc_failed(r) && r != (long)m.old) {
			ops_forget((uint64_t)r, (uint64_t)r + m.new_len);
			ops_forget(m.old, m.old + m.old_len);
		} else if (sysc_failed(r) && (flags & MREMAP_FIXED) && m.new_len <= KSM_ADDR_END)
			forget_holes(m.to, m.to + m.new_len);
	}
	ops_leave(&g, false);
	return r;
}
