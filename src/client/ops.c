// SPDX-License-Identifier: MIT
/*
 * ops.c - the system calls that change an address space, on memory where frames may stand.
 *
 * A program that mapped plain anonymous memory must see plain anonymous memory, although parts of
 * it are by now private file mappings of frames. Where the kernel treats the two alike (munmap,
 * mprotect, most advice) the call goes straight through and only the tables follow. Where it does
 * not:
 *   MADV_DONTNEED  on a frame would show the frame again: fresh anonymous memory is mapped over,
 *                  but for locked memory, which the kernel refuses.
 *   MADV_FREE      is refused on file mappings: as DONTNEED there.
 *   MADV_GUARD_INSTALL throws the contents away, too: when the guard goes there must be zeros.
 *   MADV_WIPEONFORK, DONTFORK, DONTDUMP: the range is un-shared first and left alone from then on, also
 *                  where it is not known yet. WIPEONFORK is refused on file mappings, in which pages
 *                  that broke copy-on-write still lie: the child gets empty memory there from us.
 *   mremap         cannot cross mappings (before Linux 6.17): moved piece by piece.
 *
 * All of it under the lock (as.h), and the daemon is told afterwards, in order, by the agent.
 */
#define _GNU_SOURCE
#include "client/ops.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>

#include "client/agent.h"
#include "client/as.h"
#include "client/client.h"
#include "client/maps.h"
#include "client/sysc.h"
#include "wire/kernel_abi.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */
#endif
#define USER_END (1ull << 47)

static uint64_t page_up(uint64_t x)
{
	return (x + KSM_PAGE_SIZE - 1) & ~(uint64_t)(KSM_PAGE_SIZE - 1);
}

/* ---- first use, forks ---- */

static struct as_guard fork_guard; /* of the thread that forks; under the lock */

/*
 * Pages in mappings of frames that the parent wants wiped: the kernel keeps them from the child (see
 * advice_on_frames()), which gets empty memory here. Nothing may have come to stand there yet.
 */
static void wipe_in_child(void)
{
	uint64_t at, run_end;

	for (size_t i = 0; i < as.nr; i++) {
		const struct as_range *r = &as.range[i];

		if (!(r->left_out & 1u << KSM_LEFT_WIPEONFORK))
			continue;
		for (at = r->start; as_frames_next(&at, &run_end, r->end); at = run_end) {
			long p = sysc6(SYS_mmap, (long)at, (long)(run_end - at), r->prot,
				       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

			as_frames_clear(at, run_end);
			if (!sysc_failed(p))
				sysc3(SYS_madvise, at, run_end - at, MADV_WIPEONFORK);
		}
	}
}

static void start_over_in_child(bool raw)
{
	as_reset_child();
	wipe_in_child();
	agent_reset_child(raw);
}

static void enter(struct as_guard *g)
{
	if (as_is_orphan())
		start_over_in_child(true);
	as_enter(g);
}

void ksmc_fork_prepare(void)
{
	struct as_guard g;

	enter(&g);
	fork_guard = g;
}

void ksmc_fork_parent(void)
{
	struct as_guard g = fork_guard;

	as_leave(&g);
}

/* The child of an interposed raw clone: its C library does not know, so no agent. */
void ksmc_fork_child(void)
{
	struct as_guard g = fork_guard;

	start_over_in_child(true);
	sysc4(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, &g.sigmask, NULL, sizeof(g.sigmask));
}

static void start_agent_if_wanted(bool told)
{
	struct as_guard g;
	bool want = atomic_load(&agent.heap_watch);

	as_enter(&g);
	want |= as.offer_min_pages || as.merge_any; /* what comes will be offered */
	for (size_t i = 0; i < as.nr && !want; i++)
		want = as.range[i].flags & AS_WANTED;
	as_leave(&g);
	if (want)
		agent_start(told);
}

void ksmc_defer_agent(void)
{
	atomic_store(&agent.deferred, 1);
}

void ksmc_set_runtime_dir(const char *dir)
{
	agent_find_daemon(dir);
}

void ksmc_start_agent(void)
{
	start_agent_if_wanted(true);
}

static void after_fork_in_child(void)
{
	struct as_guard g = fork_guard;

	start_over_in_child(false);
	start_agent_if_wanted(false);
	sysc4(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, &g.sigmask, NULL, sizeof(g.sigmask));
}

int ksmc_init(void)
{
	static _Atomic int state; /* 0 new, 1 being made, 2 made */
	int zero = 0, r;

	if (atomic_load_explicit(&state, memory_order_acquire) == 2)
		return 0;
	if (!atomic_compare_exchange_strong(&state, &zero, 1)) {
		while (atomic_load_explicit(&state, memory_order_acquire) == 1)
			sysc0(SYS_sched_yield);
		return atomic_load(&state) == 2 ? 0 : -ENOMEM;
	}
	r = as_init();
	if (!r && pthread_atfork(ksmc_fork_prepare, ksmc_fork_parent, after_fork_in_child))
		r = -ENOMEM;
	atomic_store_explicit(&state, r ? 0 : 2, memory_order_release);
	return r;
}

/* Something changed: let the agent know, make sure there is one where something is offered. */
static void leave_and_tell(struct as_guard *g, bool offered)
{
	/* With no daemon nobody empties the queue, and a connection begins by declaring everything. */
	bool events = (as.nr_events || as.overflow) && atomic_load(&agent.connected);

	as_leave(g);
	if (offered)
		agent_start(false);
	if (events)
		agent_poke();
}

/* ---- mmap, munmap, mprotect ---- */

/* [start, end) is not what it was: nothing is known of it, and the daemon must forget it. */
static void forget(uint64_t start, uint64_t end)
{
	as_frames_clear(start, end); /* these outlive a table that was thrown away (as.h) */
	if (!as_knows(start, end))
		return;
	as_clear(start, end);
	as_event(KSM_MSG_DEL, start, end);
}

/* Reasons to leave a mapping alone that its flags give. */
static uint16_t left_out_by_flags(int flags)
{
	uint16_t why = as.exclude_all ? 1u << KSM_LEFT_MLOCKED : 0;

	if (flags & MAP_LOCKED)
		why |= 1u << KSM_LEFT_MLOCKED;
	if (flags & MAP_HUGETLB)
		why |= 1u << KSM_LEFT_HUGETLB;
	if (flags & (MAP_STACK | MAP_GROWSDOWN))
		why |= 1u << KSM_LEFT_STACK;
	return why;
}

long ksmc_mmap(void *addr, size_t len, int prot, int flags, int fd, int64_t off)
{
	bool fixed = flags & MAP_FIXED;
	bool anon = (flags & MAP_ANONYMOUS) && (flags & MAP_TYPE) == MAP_PRIVATE;
	struct as_guard g;
	bool offer = false;
	uint64_t end;
	long r;

	if (!anon && !(fixed && atomic_load_explicit(&as.active, memory_order_relaxed)))
		return sysc6(SYS_mmap, (long)addr, (long)len, prot, flags, fd, off);
	if (ksmc_init() < 0)
		return -ENOMEM;
	enter(&g);
	r = sysc6(SYS_mmap, (long)addr, (long)len, prot, flags, fd, off);
	if (sysc_failed(r)) {
		as_leave(&g);
		return r;
	}
	end = page_up((uint64_t)r + len);
	forget((uint64_t)r, end);
	if (anon && end <= USER_END) {
		bool policy = as.offer_min_pages &&
			      len >= as.offer_min_pages * (size_t)KSM_PAGE_SIZE;

		offer = policy || as.merge_any;
		if (as_set((uint64_t)r, end, (uint8_t)prot, offer ? AS_WANTED : 0,
			   left_out_by_flags(flags)) < 0)
			offer = false;
		if (offer)
			as_event(KSM_MSG_ADD, (uint64_t)r, end);
	}
	leave_and_tell(&g, offer);
	return r;
}

long ksmc_munmap(void *addr, size_t len)
{
	uint64_t start = (uintptr_t)addr, end = page_up(start + len);
	struct as_guard g;
	long r;

	if (!atomic_load_explicit(&as.active, memory_order_relaxed) || end <= start)
		return sysc2(SYS_munmap, addr, len);
	enter(&g);
	r = sysc2(SYS_munmap, addr, len);
	if (!r)
		forget(start, end);
	leave_and_tell(&g, false);
	return r;
}

static void set_prot(struct as_range *r, long prot)
{
	r->prot = (uint8_t)prot;
}

struct relearn_ctx {
	uint64_t start, end;
};

static void relearn_prot(void *arg, const struct maps_entry *e)
{
	const struct relearn_ctx *c = arg;
	uint64_t start = e->start > c->start ? e->start : c->start;
	uint64_t end = e->end < c->end ? e->end : c->end;

	if (as_edit(start, end, set_prot, e->prot) < 0)
		as_clear(start, end);
}

long ksmc_mprotect(void *addr, size_t len, int prot)
{
	uint64_t start = (uintptr_t)addr, end = page_up(start + len);
	struct as_guard g;
	long r;

	if (!atomic_load_explicit(&as.active, memory_order_relaxed) || end <= start)
		return sysc3(SYS_mprotect, addr, len, prot);
	enter(&g);
	r = sysc3(SYS_mprotect, addr, len, prot);
	/* It may have failed half-way: fresh memory that we map must have the protection that the
	 * program has there. If the table cannot follow, the range is given up: unknown memory is
	 * never merged. */
	if (r && start % KSM_PAGE_SIZE == 0)
		maps_walk(start, end, relearn_prot, &(struct relearn_ctx){ start, end });
	else if (!r &&
		 as_edit(start, end, set_prot, prot & (PROT_READ | PROT_WRITE | PROT_EXEC)) < 0)
		as_clear(start, end);
	leave_and_tell(&g, false);
	return r;
}

/* ---- mremap ---- */

struct pieces {
	struct maps_entry *e;
	size_t nr, cap;
};

static void add_piece(void *arg, const struct maps_entry *e)
{
	struct pieces *p = arg;

	if (p->nr == p->cap) {
		long r = sysc5(SYS_mremap, p->e, p->cap * sizeof(*e), 2 * p->cap * sizeof(*e),
			       MREMAP_MAYMOVE, 0);

		if (sysc_failed(r))
			return; /* seen as a gap by the caller, who gives up */
		p->e = (struct maps_entry *)r;
		p->cap *= 2;
	}
	p->e[p->nr++] = *e;
}

/* The mappings of [start, end), clipped; -EFAULT when there is a gap. */
static long find_pieces(struct pieces *p, uint64_t start, uint64_t end)
{
	uint64_t at = start;
	long r;

	p->cap = 64;
	p->nr = 0;
	r = sysc6(SYS_mmap, 0, (long)(p->cap * sizeof(*p->e)), PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (sysc_failed(r))
		return -ENOMEM;
	p->e = (struct maps_entry *)r;
	maps_walk(start, end, add_piece, p);
	for (size_t i = 0; i < p->nr; i++) {
		struct maps_entry *e = &p->e[i];

		e->start = e->start > start ? e->start : start;
		e->end = e->end < end ? e->end : end;
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

/* Move [from, from+len) over to, which is ours to overwrite; all or (on failure) nothing. */
static long move_all(uint64_t from, size_t len, uint64_t to, int flags)
{
	struct pieces p = { 0 };
	long r = find_pieces(&p, from, from + len);

	for (size_t i = 0; i < p.nr && !r; i++) {
		struct maps_entry *e = &p.e[i];

		r = move_piece(e->start, to + (e->start - from), e->end - e->start, flags);
		while (r && i-- > 0) {
			e = &p.e[i];
			move_piece(to + (e->start - from), e->start, e->end - e->start, 0);
		}
		if (r)
			break;
	}
	drop_pieces(&p);
	return r;
}

/* What the kernel was told of memory that is left alone, for a mapping that takes its place. */
static void repeat_advice(uint64_t start, uint64_t end, uint16_t left_out)
{
	if (left_out & 1u << KSM_LEFT_DONTFORK)
		sysc3(SYS_madvise, start, end - start, MADV_DONTFORK);
	if (left_out & 1u << KSM_LEFT_WIPEONFORK)
		sysc3(SYS_madvise, start, end - start, MADV_WIPEONFORK);
	if (left_out & 1u << KSM_LEFT_DONTDUMP)
		sysc3(SYS_madvise, start, end - start, MADV_DONTDUMP);
}

/* Where frames stood are zeros now. Returns 0, or -ENOMEM: from there on nothing was done. */
static long empty_frames(uint64_t start, uint64_t end)
{
	uint64_t run_end;

	while (as_frames_next(&start, &run_end, end)) {
		struct as_range r = { .prot = PROT_READ | PROT_WRITE };
		size_t i = as_find(start);

		if (i < as.nr && as.range[i].start <= start) {
			r = as.range[i];
			run_end = run_end < r.end ? run_end : r.end;
		}
		if (!sysc_failed(sysc6(SYS_mmap, (long)start, (long)(run_end - start), r.prot,
				       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0))) {
			as_frames_clear(start, run_end);
			repeat_advice(start, run_end, r.left_out);
		} else if ((r.prot & (PROT_READ | PROT_WRITE)) == (PROT_READ | PROT_WRITE)) {
			/* No mapping to be had: zeros all the same. */
			memset((void *)start, 0, run_end - start);
		} else {
			return -ENOMEM;
		}
		start = run_end;
	}
	return 0;
}

/* The tables follow a move of len bytes; `extra` bytes were added behind. */
static void follow_move(uint64_t from, size_t len, uint64_t to, size_t extra, bool keep_old)
{
	uint64_t at = from, run_end;
	struct as_range last = { 0 };
	bool offered = false, frames = false;

	for (size_t i = as_find(from);
	     at < from + len && i < as.nr && as.range[i].start < from + len; i = as_find(at)) {
		struct as_range r = as.range[i];
		uint64_t s = r.start > from ? r.start : from;
		uint64_t e = r.end < from + len ? r.end : from + len;

		at = e;
		last = r;
		offered |= r.flags & AS_WANTED;
		as_set(to + (s - from), to + (e - from), r.prot, r.flags, r.left_out);
	}
	if (extra && last.end)
		as_set(to + len, to + len + extra, last.prot, last.flags, last.left_out);
	for (at = from; as_frames_next(&at, &run_end, from + len); at = run_end) {
		frames = true;
		as_frames_set(to + (at - from), to + (run_end - from));
	}
	if (keep_old) {
		empty_frames(from, from + len);
		as_event(KSM_MSG_FORGET, from, from + len);
	} else {
		forget(from, from + len);
	}
	if (offered)
		as_event(KSM_MSG_ADD, to, to + len + extra);
	if (frames)
		as_event(KSM_MSG_ADOPT, to, to + len);
}

/* Grow without moving: what follows is free. */
static long grow_in_place(uint64_t old, size_t old_len, size_t new_len)
{
	size_t i = as_find(old + old_len - KSM_PAGE_SIZE);
	struct as_range r;
	long at;

	if (i == as.nr || as.range[i].start >= old + old_len)
		return -ENOMEM;
	r = as.range[i];
	at = sysc6(SYS_mmap, (long)(old + old_len), (long)(new_len - old_len), r.prot,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (sysc_failed(at))
		return -ENOMEM;
	if (as_set(old + old_len, old + new_len, r.prot, r.flags, r.left_out) == 0 &&
	    (r.flags & AS_WANTED))
		as_event(KSM_MSG_ADD, old + old_len, old + new_len);
	return (long)old;
}

static long reserve_target(uint64_t old, size_t new_len, int flags, void *new_addr)
{
	size_t i = as_find(old);
	int prot = i < as.nr && as.range[i].start <= old ? as.range[i].prot :
							   PROT_READ | PROT_WRITE;
	int how = MAP_PRIVATE | MAP_ANONYMOUS | (flags & MREMAP_FIXED ? MAP_FIXED : 0);

	return sysc6(SYS_mmap, (long)(flags & MREMAP_FIXED ? new_addr : NULL), (long)new_len, prot,
		     how, -1, 0);
}

/* mremap of known memory; lengths are whole pages, new_len >= what is moved. */
static long remap_known(uint64_t old, size_t old_len, size_t new_len, int flags, void *new_addr)
{
	size_t move = old_len < new_len ? old_len : new_len;
	bool keep = flags & MREMAP_DONTUNMAP;
	long to, r;

	if (!(flags & MREMAP_FIXED)) {
		if (new_len <= old_len && !keep) {
			if (new_len < old_len) {
				sysc2(SYS_munmap, old + new_len, old_len - new_len);
				forget(old + new_len, old + old_len);
			}
			return (long)old;
		}
		if (!keep) {
			r = grow_in_place(old, old_len, new_len);
			if (r > 0 || !(flags & MREMAP_MAYMOVE))
				return r;
		}
	}
	to = reserve_target(old, new_len, flags, new_addr);
	if (sysc_failed(to))
		return to;
	forget((uint64_t)to, (uint64_t)to + new_len);
	r = move_all(old, move, (uint64_t)to, keep ? MREMAP_DONTUNMAP : 0);
	if (r) {
		sysc2(SYS_munmap, to, new_len);
		return r;
	}
	follow_move(old, move, (uint64_t)to, new_len - move, keep);
	if (old_len > move) {
		sysc2(SYS_munmap, old + move, old_len - move);
		forget(old + move, old + old_len);
	}
	return to;
}

static bool remap_is_valid(uint64_t old, size_t old_len, size_t new_len, int flags, uint64_t to)
{
	if (flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP))
		return false;
	if ((flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) && !(flags & MREMAP_MAYMOVE))
		return false;
	if ((flags & MREMAP_DONTUNMAP) && old_len != new_len)
		return false;
	if (old % KSM_PAGE_SIZE || !old_len || !new_len)
		return false;
	if (flags & MREMAP_FIXED)
		return to % KSM_PAGE_SIZE == 0 && (to + new_len <= old || to >= old + old_len) &&
		       to + new_len <= USER_END;
	return true;
}

long ksmc_mremap(void *old_p, size_t old_len, size_t new_len, int flags, void *new_addr)
{
	uint64_t old = (uintptr_t)old_p, to = (uintptr_t)new_addr;
	struct as_guard g;
	bool known;
	long r;

	if (!atomic_load_explicit(&as.active, memory_order_relaxed))
		return sysc5(SYS_mremap, old, old_len, new_len, flags, new_addr);
	enter(&g);
	known = old_len && as_knows(old, page_up(old + old_len));
	if (!known || !remap_is_valid(old, page_up(old_len), page_up(new_len), flags, to)) {
		/* Not ours, or an error: the kernel's word. */
		r = sysc5(SYS_mremap, old, old_len, new_len, flags, new_addr);
		if (!sysc_failed(r) && r != (long)old)
			forget((uint64_t)r, page_up((uint64_t)r + new_len));
	} else {
		r = remap_known(old, page_up(old_len), page_up(new_len), flags, new_addr);
	}
	leave_and_tell(&g, false);
	return r;
}

/* ---- madvise ---- */

static void mark_unsharing(struct as_range *r, long why)
{
	r->flags |= AS_UNSHARING;
	if (why >= 0)
		r->left_out |= (uint16_t)(1u << why);
	else
		r->flags &= (uint8_t) ~(AS_WANTED | AS_ADVISED);
}

static void unmark_unsharing(struct as_range *r, long arg)
{
	(void)arg;
	r->flags &= (uint8_t)~AS_UNSHARING;
}

/*
 * Withdraw known parts of a range (why < 0), or leave them alone for a reason; when it returns no
 * page there stands on a frame. The mark keeps the agent from merging between the steps; requests
 * are serialised, so nobody else takes the mark away.
 */
static long withdraw(uint64_t start, uint64_t end, int why)
{
	struct as_guard g;
	uint64_t sigmask, at = start, run_end;
	bool frames = false;
	long r;

	if (as_is_orphan()) /* whose parent's threads may have held the request lock */
		start_over_in_child(true);
	agent_request_begin(&sigmask);
	enter(&g);
	if (!as_knows(start, end)) {
		as_leave(&g);
		agent_request_end(&sigmask);
		return 0;
	}
	r = as_edit(start, end, mark_unsharing, why);
	frames = !r && as_frames_next(&at, &run_end, end);
	as_leave(&g);
	if (frames)
		r = agent_unshare(start, end);
	enter(&g);
	as_edit(start, end, unmark_unsharing, 0);
	if (!r)
		as_event(KSM_MSG_DEL, start, end);
	leave_and_tell(&g, false);
	agent_request_end(&sigmask);
	return r;
}

struct offer_ctx {
	uint64_t start, end, at;
	bool gap, nomem;
};

static void want(struct as_range *r, long arg)
{
	(void)arg;
	r->flags |= AS_WANTED | AS_ADVISED;
}

static bool may_learn(const struct maps_entry *e)
{
	return as.learn == KSMC_LEARN_ALL ||
	       (as.learn == KSMC_LEARN_HEAP && !strcmp(e->name, "[heap]"));
}

/* One mapping of the range, as the kernel sees it: learn it if it may be merged. */
static void learn_mapping(void *arg, const struct maps_entry *e)
{
	struct offer_ctx *c = arg;
	uint64_t start = e->start > c->start ? e->start : c->start;
	uint64_t end = e->end < c->end ? e->end : c->end;

	c->gap |= start != c->at;
	c->at = end;
	if (maps_is_anon(e) && end <= USER_END && may_learn(e) &&
	    as_fill(start, end, e->prot, 0, 0) < 0)
		c->nomem = true;
}

/*
 * Learn what is not known of [start, end). The table must not move meanwhile: it might be learned
 * where it is no more.
 */
static void learn(struct offer_ctx *c)
{
	bool known = as_covers(c->start, c->end);
	int nr = known ? 0 : maps_walk(0, 0, NULL, NULL);

	if (nr < 0 || (!known && as_reserve(2 * ((size_t)nr + as.nr) + 8) < 0)) {
		c->nomem = true;
		return;
	}
	maps_walk(c->start, c->end, learn_mapping, c);
	if (!known) {
		as_clear_own();
		agent_clear_own();
	}
}

static long offer(uint64_t start, uint64_t end)
{
	struct offer_ctx c = { start, end, start, false, false };
	struct as_guard g;

	if (ksmc_init() < 0)
		return -ENOMEM;
	enter(&g);
	learn(&c);
	if (as_edit(start, end, want, 0) < 0)
		c.nomem = true;
	as_event(KSM_MSG_ADD, start, end);
	leave_and_tell(&g, as_knows(start, end));
	return c.nomem || c.gap || c.at < end ? -ENOMEM : 0;
}

static void check_gap(void *arg, const struct maps_entry *e)
{
	struct offer_ctx *c = arg;

	c->gap |= (e->start > c->start ? e->start : c->start) != c->at;
	c->at = e->end < c->end ? e->end : c->end;
}

static long unmerge(uint64_t start, uint64_t end)
{
	struct offer_ctx c = { start, end, start, false, false };
	long r = withdraw(start, end, -1);

	maps_walk(start, end, check_gap, &c);
	return r || c.gap || c.at < end ? -ENOMEM : 0;
}

/* ---- advice that throws contents away ---- */

/*
 * Does the kernel know memory of [start, end) as locked? MADV_COLD refuses it by the same rule as
 * MADV_DONTNEED, does nothing to contents, and comes right before these are thrown away.
 */
static bool any_locked(uint64_t start, uint64_t end)
{
	return sysc3(SYS_madvise, start, end - start, MADV_COLD) == -EINVAL;
}

/* End of the part of [start, end) that is not locked, or that is; uniform. */
static uint64_t same_lock(uint64_t start, uint64_t end, bool locked)
{
	uint64_t ok = start + KSM_PAGE_SIZE, bad = end;

	if (locked) { /* every page counts; ranges that are locked and stand on frames are small */
		while (ok < end && any_locked(ok, ok + KSM_PAGE_SIZE))
			ok += KSM_PAGE_SIZE;
		return ok;
	}
	if (!any_locked(start, end))
		return end;
	while (bad - ok > KSM_PAGE_SIZE) {
		uint64_t mid = ok + (bad - ok) / 2 / KSM_PAGE_SIZE * KSM_PAGE_SIZE;

		if (any_locked(start, mid))
			bad = mid;
		else
			ok = mid;
	}
	return ok;
}

/* A run of frames becomes fresh zeros, if the kernel would let anonymous memory there. */
static long discard_run(uint64_t start, uint64_t end, int advice)
{
	while (start < end) {
		bool locked = any_locked(start, start + KSM_PAGE_SIZE);
		uint64_t stop = same_lock(start, end, locked);
		long r;

		if (locked && advice != MADV_DONTNEED_LOCKED)
			return -EINVAL;
		r = empty_frames(start, stop);
		if (!r && advice == MADV_GUARD_INSTALL)
			r = sysc3(SYS_madvise, start, stop - start, advice);
		if (r)
			return r;
		if (locked)
			sysc3(SYS_mlock2, start, stop - start, MLOCK_ONFAULT);
		start = stop;
	}
	return 0;
}

/*
 * In the order of addresses, as the kernel goes: what comes before memory that it refuses is done, what
 * comes after is not, and a gap is an error in the end.
 */
static long discard_range(uint64_t start, uint64_t end, int advice)
{
	long gap = 0, r;

	while (start < end) {
		uint64_t run = start, run_end = end;

		if (!as_frames_next(&run, &run_end, end))
			run = run_end = end;
		if (run > start) {
			r = sysc3(SYS_madvise, start, run - start, advice);
			if (r == -ENOMEM)
				gap = r;
			else if (r)
				return r;
		}
		r = run < run_end ? discard_run(run, run_end, advice) : 0;
		if (r)
			return r;
		start = run_end;
	}
	return gap;
}

/* DONTNEED, FREE and guards: frames in the range become fresh zeros. */
static long discard(uint64_t start, uint64_t end, int advice)
{
	struct as_guard g;
	uint64_t at = start, run_end;
	long r;

	enter(&g);
	/* Nothing may be lost to an advice that this kernel does not know: asked with no length. */
	if (as_frames_next(&at, &run_end, end) && !sysc3(SYS_madvise, start, 0, advice))
		r = discard_range(start, end, advice);
	else
		r = sysc3(SYS_madvise, start, end - start, advice);
	if (as_knows(start, end))
		as_event(KSM_MSG_FORGET, start, end);
	leave_and_tell(&g, false);
	return r;
}

static void undo_reason(struct as_range *r, long why)
{
	r->left_out &= (uint16_t) ~(1u << why);
}

static int reason_of_advice(int advice, bool *undo)
{
	*undo = advice == MADV_DOFORK || advice == MADV_KEEPONFORK || advice == MADV_DODUMP;
	switch (advice) {
	case MADV_DONTFORK:
	case MADV_DOFORK:
		return KSM_LEFT_DONTFORK;
	case MADV_WIPEONFORK:
	case MADV_KEEPONFORK:
		return KSM_LEFT_WIPEONFORK;
	case MADV_DONTDUMP:
	case MADV_DODUMP:
		return KSM_LEFT_DONTDUMP;
	default:
		return -1;
	}
}

/*
 * What to say of a run of frames in place of `advice`. After un-sharing only pages that broke
 * copy-on-write stand there, and memory of a file cannot be wiped on fork: it is kept from the child,
 * who gets fresh memory from wipe_in_child().
 */
static int advice_on_frames(int advice, uint16_t left_out)
{
	bool dontfork = left_out & 1u << KSM_LEFT_DONTFORK;
	bool wipe = left_out & 1u << KSM_LEFT_WIPEONFORK;

	switch (advice) {
	case MADV_WIPEONFORK:
		return MADV_DONTFORK;
	case MADV_KEEPONFORK:
		return dontfork ? MADV_NORMAL : MADV_DOFORK;
	case MADV_DOFORK:
		return wipe ? MADV_NORMAL : MADV_DOFORK;
	default:
		return advice;
	}
}

/* Part by part, in the order of addresses; see discard_range(). Lock held. */
static long advise_parts(uint64_t start, uint64_t end, int advice)
{
	long gap = 0, r;

	while (start < end) {
		uint64_t run = start, run_end = end;
		int say = advice;

		if (!as_frames_next(&run, &run_end, end)) {
			run = end;
		} else if (run == start) {
			size_t i = as_find(start);
			bool known = i < as.nr && as.range[i].start <= start;

			if (known && as.range[i].end < run_end)
				run_end = as.range[i].end;
			say = advice_on_frames(advice, known ? as.range[i].left_out : 0);
			run = run_end;
		}
		r = sysc3(SYS_madvise, start, run - start, say);
		if (r == -ENOMEM)
			gap = r;
		else if (r)
			return r;
		start = run;
	}
	return gap;
}

/* DONTFORK, WIPEONFORK, DONTDUMP and their opposites. */
static long advise_forks(uint64_t start, uint64_t end, int advice, enum ksm_left_out why, bool undo)
{
	struct as_guard g;
	long r = undo ? 0 : ksmc_exclude((void *)start, end - start, why);

	if (r)
		return r;
	if (!atomic_load_explicit(&as.active, memory_order_relaxed))
		return sysc3(SYS_madvise, start, end - start, advice);
	enter(&g);
	r = advise_parts(start, end, advice);
	leave_and_tell(&g, false);
	if (undo && !r)
		ksmc_include((void *)start, end - start, why);
	return r;
}

long ksmc_madvise(void *addr, size_t len, int advice)
{
	uint64_t start = (uintptr_t)addr, end = page_up(start + len);
	bool undo;
	int why;

	if (advice == MADV_MERGEABLE || advice == MADV_UNMERGEABLE) {
		if (start % KSM_PAGE_SIZE || end < start || (len && end == start))
			return -EINVAL;
		if (!len)
			return 0;
		return advice == MADV_MERGEABLE ? offer(start, end) : unmerge(start, end);
	}
	why = reason_of_advice(advice, &undo);
	if (start % KSM_PAGE_SIZE || end <= start)
		return sysc3(SYS_madvise, addr, len, advice);
	if (why >= 0)
		return advise_forks(start, end, advice, (enum ksm_left_out)why, undo);
	if (!atomic_load_explicit(&as.active, memory_order_relaxed))
		return sysc3(SYS_madvise, addr, len, advice);
	if (advice == MADV_DONTNEED || advice == MADV_DONTNEED_LOCKED || advice == MADV_FREE ||
	    advice == MADV_GUARD_INSTALL)
		return discard(start, end, advice);
	if (advice == MADV_REMOVE && as_knows(start, end))
		return -EINVAL; /* as on anonymous memory */
	return sysc3(SYS_madvise, addr, len, advice);
}

/* ---- policy, heap, reasons ---- */

long ksmc_exclude(void *addr, size_t len, enum ksm_left_out reason)
{
	uint64_t start = (uintptr_t)addr, end = page_up(start + len);
	struct offer_ctx c = { start, end, start, false, false };
	struct as_guard g;

	if (start % KSM_PAGE_SIZE)
		return 0; /* the kernel refuses what the caller is about to ask for */
	if (ksmc_init() < 0)
		return -ENOMEM;
	if (!addr && !len) {
		enter(&g);
		as.exclude_all = true;
		as_leave(&g);
		return withdraw(0, USER_END, (int)reason);
	}
	if (end <= start)
		return 0;
	/* The reason is remembered, too, for memory that is offered later. */
	enter(&g);
	learn(&c);
	leave_and_tell(&g, false);
	return c.nomem ? -ENOMEM : withdraw(start, end, (int)reason);
}

void ksmc_include(void *addr, size_t len, enum ksm_left_out reason)
{
	uint64_t start = (uintptr_t)addr, end = page_up(start + len);
	struct as_guard g;

	if (!atomic_load_explicit(&as.active, memory_order_relaxed) || start % KSM_PAGE_SIZE ||
	    (len && end <= start))
		return;
	enter(&g);
	if (!addr && !len) {
		as.exclude_all = false;
		end = USER_END;
	}
	as_edit(start, end, undo_reason, reason);
	if (as_knows(start, end))
		as_event(KSM_MSG_ADD, start, end);
	leave_and_tell(&g, false);
}

void ksmc_set_offer_policy(size_t min_pages)
{
	struct as_guard g;

	if (ksmc_init() < 0)
		return;
	enter(&g);
	as.offer_min_pages = min_pages;
	as_leave(&g);
}

void ksmc_set_learn(enum ksmc_learn learn)
{
	struct as_guard g;

	if (ksmc_init() < 0)
		return;
	enter(&g);
	as.learn = (uint8_t)learn;
	as_leave(&g);
}

static void want_any(struct as_range *r, long arg)
{
	(void)arg;
	r->flags |= AS_WANTED;
}

long ksmc_set_merge_any(bool enable)
{
	struct as_guard g;
	bool was;

	if (ksmc_init() < 0)
		return -ENOMEM;
	enter(&g);
	was = as.merge_any;
	as.merge_any = enable;
	if (enable) {
		as_edit(0, USER_END, want_any, 0);
		as_event(KSM_MSG_ADD, 0, USER_END);
	}
	leave_and_tell(&g, enable);
	return was && !enable ? withdraw(0, USER_END, -1) : 0;
}

bool ksmc_get_merge_any(void)
{
	return as.merge_any;
}

void ksmc_heap_watch(void)
{
	if (ksmc_init() < 0)
		return;
	atomic_store(&agent.heap_watch, 1);
	agent.heap_end = page_up((uint64_t)sysc1(SYS_brk, 0));
	agent_start(false);
}

long ksmc_brk(void *addr)
{
	struct as_guard g;
	uint64_t was, now;

	if (!addr || !atomic_load_explicit(&as.active, memory_order_relaxed))
		return sysc1(SYS_brk, addr);
	enter(&g);
	was = (uint64_t)sysc1(SYS_brk, 0);
	now = (uint64_t)sysc1(SYS_brk, addr);
	if (now < was) {
		forget(page_up(now), page_up(was));
		if (agent.heap_end > page_up(now))
			agent.heap_end = page_up(now);
	}
	leave_and_tell(&g, false);
	return (long)now;
}

long ksmc_stat(struct ksm_stat *st)
{
	struct ksm_msg_stat_reply r = { 0 };
	struct ksm_stat full = { .size = st ? st->size : 0 };
	struct as_guard g;
	uint64_t sigmask;
	int err;

	if (!st || st->size < 2 * sizeof(uint32_t))
		return -EINVAL;
	if (ksmc_init() < 0)
		return -ENOMEM;
	if (as_is_orphan())
		start_over_in_child(true);
	agent_request_begin(&sigmask);
	err = agent_stat(&r);
	agent_request_end(&sigmask);
	if (err == -ETIMEDOUT)
		return err;
	full.connected = !err;
	if (!err) {
		full.rmap_items = r.rmap_items;
		full.zero_pages = r.zero_pages;
		full.merging_pages = r.merging_pages;
		full.process_profit = r.process_profit;
	}
	enter(&g);
	full.merge_any = as.merge_any;
	for (size_t i = 0; i < as.nr; i++)
		full.mergeable |= as_offered(&as.range[i]);
	as_leave(&g);
	memcpy(st, &full, st->size < sizeof(full) ? st->size : sizeof(full));
	return 0;
}
